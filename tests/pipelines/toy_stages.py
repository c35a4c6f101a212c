"""Small stages for the engine's tests, which note when they run, and what became of them."""

import json
from pathlib import Path

from ruamel.yaml import YAML


def pipeline(**stages):
    """Return a dvc.yaml, which is YAML also when it is written as JSON."""
    return json.dumps({"stages": stages}, indent=1)


def timed(name, *deps, **meta):
    """Return a stage that notes when its command begins and ends."""
    cmd = f"echo + {name} >> times; sleep 0.3; echo - {name} >> times; date > {name}"
    return {"cmd": cmd, "deps": list(deps), "outs": [name], "meta": {"assay": meta}}


def begun():
    return [line[2:] for line in Path("times").read_text().splitlines() if line.startswith("+")]


def at_once():
    """Return which stages ran at the same time, each time one began or ended."""
    running, found = set(), []
    for line in Path("times").read_text().splitlines():
        (running.add if line[0] == "+" else running.remove)(line[2:])
        found.append(set(running))
    return found


def most_at_once():
    return max(map(len, at_once()))


def statuses(outcomes):
    return {name: outcome["status"] for name, outcome in outcomes.items()}


def recorded(path="dvc.lock"):
    lock = Path(path)
    return YAML(typ="safe").load(lock)["stages"] if lock.exists() else {}


def edit(file, old, new):
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def lines(file):
    return Path(file).read_text().splitlines()
