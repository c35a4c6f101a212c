"""Orchestration of Assay: reads DVC's graph and runs it as a Prefect flow; of the science it knows the settings."""

import os
from pathlib import Path

_given = dict(os.environ)

# Sets variables for whatever computes.
import stages  # noqa: E402, F401


def find_root(start: Path) -> Path | None:
    """Return the nearest folder from `start` upwards that holds params.yaml, or None."""
    return next((folder for folder in (start, *start.parents) if (folder / "params.yaml").is_file()), None)


def prefect_home(start: Path) -> Path:
    """Return where Prefect keeps its database: with DVC's temporary files, which git ignores in any repository."""
    root = next((folder for folder in (start, *start.parents) if (folder / ".dvc").is_dir()), start)
    return root / ".dvc" / "tmp" / "assay" / "prefect"


# Both tools read these when they are imported: no telemetry, and Prefect's database stays in the repository.
for _variable, _value in {
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_HOME": str(prefect_home(Path.cwd())),
    # A first start makes the database; that takes 20 s, Prefect's own limit, on a small machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": "%(asctime)s | %(task_run_name)s | %(message)s",
}.items():
    os.environ.setdefault(_variable, _value)

# What is set here and in `stages`, name -> what it was, None if it was not: stages get what DVC would give them.
SET_HERE = {name: _given.get(name) for name, value in os.environ.items() if value != _given.get(name)}
