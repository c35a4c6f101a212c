"""How a verb runs as a command: errors in one line, exit codes, and the time and memory it took."""

import argparse
import errno
import resource
import sys
import time
from collections.abc import Callable

from stages.common import artifacts, paths, pool
from stages.common.errors import InputError


def arguments(verb: str, description: str, *names: str) -> argparse.Namespace:
    """Parse the verb's required options, each `--name NAME`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{verb}",
        description=description,
        epilog="Run from the root of the project. Settings: params.yaml. DVC runs this as `dvc repro`.",
    )
    helps = {
        "study": "block of params.yaml that describes the study",
        "cell": "point of the study's grid: its values joined with '-'",
        "dataset": "key under `datasets` in params.yaml",
        "partition": "key under `partitions` in params.yaml",
    }
    for name in names:
        parser.add_argument(f"--{name}", required=True, help=helps[name])
    return parser.parse_args()


def run(main: Callable[[], str]) -> None:
    """Run a verb and exit: 0 done, 2 wrong input or no space left (one line on stderr, no traceback).

    Args:
        main: Does the work and returns the run's name, under which its time and memory are written to
            reports/timings. They differ from run to run, so they are no DVC output.
    """
    start = time.perf_counter()
    try:
        name = main()
        peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, pool.worker_peak())
        seconds = round(time.perf_counter() - start, 3)
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        mebibytes = round(peak / (1024 if sys.platform == "linux" else 1024**2), 1)
        artifacts.write_json(
            paths.TIMINGS / f"{name}.json", {"seconds": seconds, "peak_mebibytes_of_one_process": mebibytes}
        )
    except InputError as error:
        sys.exit(_fail(str(error)))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.exit(_fail(f"{error.filename or 'the disk'}: no space left; free some and run again, nothing was kept"))


def warn(message: str) -> None:
    """Say in one line on stderr what the user may not have meant; the run goes on."""
    print(f"warning: {message}", file=sys.stderr)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
