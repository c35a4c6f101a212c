"""Show in Prefect what an engine in another process does: `python -m pipelines.follower ROOT < messages`.

`pipelines/display.py` starts it and writes the messages, one JSON object a line.
"""

import atexit
import os
import sys
from pathlib import Path

from pipelines import server
from pipelines.following import Following
from stages.common.errors import InputError


def main() -> None:
    """Start a server if there is none, and run the flow."""
    shown: list[bool] = []
    # Python takes most of a second to take Prefect apart. Registered first, this comes last, when all is sent.
    atexit.register(lambda: os._exit(0) if shown else None)
    try:
        temporary = server.ensure(Path(sys.argv[1]))
    except InputError as error:
        sys.exit(f"error: {error}")
    from pipelines.flows import follow

    follow(Following(sys.stdin, has_page=not temporary))
    shown.append(True)


if __name__ == "__main__":
    main()
