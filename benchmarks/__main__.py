"""Run every benchmark, each in a process of its own, and keep its JSON under benchmarks/results/."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py") if path.stem != "harness")


def main() -> int:
    """Return 0 if every benchmark ran; a missed target is no failure."""
    commands = [
        [sys.executable, "-m", f"benchmarks.{name}", "--json", str(FOLDER / "results" / f"{name}.json")]
        for name in NAMES
    ]
    return max(subprocess.run(command, cwd=FOLDER.parent, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
