"""A model of the hub, through the real hub code, on a local cache in the hub's own layout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"
BUILD = """
import json, sys
from stages.models.files import build, trained_state
from stages.models.settings import ModelSettings
model = build(ModelSettings.model_validate(json.loads(sys.argv[1])), ["a", "b"], [], seed=0)
print(sum(tensor.double().sum().item() for tensor in trained_state(model).values()))
"""


def built(encoder: dict[str, Any], cache: Path) -> subprocess.CompletedProcess[str]:
    settings = {"encoder": encoder, "head": "mean", "hidden": 0, "dropout": 0.0, "max_length": 8}
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", BUILD, json.dumps(settings)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_hub_model_is_the_local_one(bert: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(bert["path"], tmp_path / "models--acme--tiny" / "snapshots" / REVISION)
    local = {key: value for key, value in bert.items() if key not in ("path", "source")}
    hub = local | {"source": "hub", "repository": "acme/tiny", "revision": REVISION}

    from_hub, from_directory = built(hub, tmp_path), built(bert, tmp_path)

    assert from_hub.returncode == 0, from_hub.stderr
    assert from_hub.stdout == from_directory.stdout
    assert "Loading weights" not in from_hub.stderr
