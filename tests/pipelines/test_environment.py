"""Commands see the environment that `dvc repro` would give them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Documented in docs/engine.md; PATH begins with the environment's own folder if that is in the repository.
ADDED = {"PYTHONUNBUFFERED", "ASSAY_RUN", "ASSAY_PROCESSES"}
DUMP = "import json, os; json.dump(dict(os.environ), open('seen.json', 'w'))"


@pytest.mark.parametrize("threads", [None, "4"])
def test_a_command_sees_what_dvc_would_give_it(project, threads):
    project({"dump.py": DUMP, "dvc.yaml": "stages:\n  dump:\n    cmd: python dump.py\n    outs: [seen.json]\n"})
    given = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name and name != "PREFECT_HOME"}
    given |= {"PYTHONPATH": str(Path(__file__).parents[2])} | ({"OMP_NUM_THREADS": threads} if threads else {})

    def seen(*command: str) -> dict[str, str]:
        Path("seen.json").unlink(missing_ok=True)
        subprocess.run([sys.executable, *command], check=True, env=given, capture_output=True)
        return json.loads(Path("seen.json").read_text())

    expected = seen("-m", "dvc", "repro", "--force")
    assert expected.get("OMP_NUM_THREADS") == threads
    for options in (["--no-prefect"], []):
        found = seen("-c", "from pipelines.cli import main; main()", "run", "--force", *options)
        assert found.keys() - expected.keys() <= ADDED
        assert {name: found.get(name) for name in expected} == expected
