"""Repositories of any shape, as a model that is edited at random and written to a folder."""

import copy
import io
import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

from ruamel.yaml import YAML

# What a parameter may be, as text in params.yaml; the first ones may stand in a command.
SCALARS = ["1", "0", "1.0e-5", "0.25", "1e3", "-3", "word", "true", "12345678901234567890", "0.1000", "1_000"]
VALUES = [
    *SCALARS,
    "null",
    "'1.0e-5'",
    "'no'",
    '"tab\\tand \\u00e9"',
    "0x1F",
    ".inf",
    "'007'",
    "''",
    "[]",
    "{}",
    "[1, 2.5e-3, x, [y, null]]",
    "{deep: {rate: 1.0e-5, names: [a, b]}, flat: yes}",
    "{deep: [1, 2, 3], flat: 'no'}",
    "{b: 2, a: 1, deep: word}",
    "|\n  two\n  lines\n",
    "'" + "a long text that YAML folds at eighty columns unless it is told otherwise, " * 2 + "'",
]
KEYS = [f"p{number}" for number in range(6)]

Model = dict[str, Any]
Stage = dict[str, Any]


def random_model(random: Random) -> Model:
    model: Model = {
        "config": random.choice(["", "", "[cache]\n    type = hardlink\n", "[cache]\n    type = symlink\n"])
        + random.choice(["", "", "[core]\n    autostage = true\n"]),
        "sources": {f"source{number}": f"{number}\n" for number in range(random.randint(1, 3))},
        "params": {key: random.choice(SCALARS if key in KEYS[:2] else VALUES) for key in KEYS},
        "settings": {"width": 1, "nested": {"rate": 1e-5, "names": ["a"]}},
        "ignored": random.choice(["", "", "*.pyc\n", "*.pyc", "/data\n"]),
        # Different stages make the same: one object in the cache, and one inode where the cache is hard-linked.
        "twins": random.random() < 0.3,
        "stages": [],
    }
    model["sources"] |= {"folder/one": "1\n", "folder/more/two": "2\n"} if random.random() < 0.5 else {}
    model["added"] = [path for path in ("source0", "folder") if path in outer(model) and random.random() < 0.2]
    for _ in range(random.randint(1, 8)):
        add_stage(random, model)
    return model


def outer(model: Model) -> set[str]:
    return {path.partition("/")[0] for path in model["sources"]}


def add_stage(random: Random, model: Model, place: int | None = None) -> None:
    number = 1 + max((stage["number"] for stage in model["stages"]), default=-1)
    known = [path for stage in model["stages"][:place] for path in stage_outputs(stage)]
    made = [each["path"] for stage in model["stages"] for each in stage["outs"] if each["kind"] in ("metrics", "plots")]
    known += [random.choice([path, path.partition("/")[0]]) for path in model["sources"]]
    random.shuffle(known)
    stage = new_stage(
        number,
        deps=random.choice([[], known[:1], known[:1], known[:2], known[:2], known[:3]]) if number else known[:1],
        file="dvc.yaml" if random.random() < 0.8 else "sub/dvc.yaml",
        wdir=random.choice(["", "", "", "work", "work/deep"]),
        shape=random.choice(["text", "text", "list", "lines"]),
        fail=random.choice([""] * 27 + ["first", "last", "missing"]),
        sleep=random.choice([0, 0, 0.02, 0.05]),
        frozen=random.random() < 0.05,
        always_changed=random.random() < 0.07,
        constant=random.randint(0, 2),
        twins=model["twins"],
    )
    draw = random.random()
    if draw < 0.12:
        stage["group"] = {"matrix": {"a": ["x", "y"], "b": [1, 2.5][: random.randint(1, 2)]}}
    elif draw < 0.2:
        stage["group"] = {"foreach": ["x", "y"]}
    elif draw < 0.28:
        stage["group"] = {"foreach": {"k1": {"value": 1}, "k2": {"value": 2}}}
    kinds = ["file", "file", "file", "folder", "folder", "metrics", "metrics", "plots", "persist"]
    # A file that may be executed shares its mode with its twins.
    kinds += [] if model["twins"] else ["x"]
    count = random.choice([1, 1, 1, 2, 3])
    stage["outs"] = [random_output(random, number, position, random.choice(kinds)) for position in range(count)]
    if random.random() < 0.05:
        stage["outs"] = []
    if random.random() < 0.5:
        keys = random.sample(KEYS, random.randint(1, 2))
        mappings = [key for key in KEYS if model["params"][key].startswith("{") and "deep" in model["params"][key]]
        if mappings and random.random() < 0.6:
            keys.append(f"{random.choice(mappings)}.deep")
        stage["params"] = list(dict.fromkeys(keys))
    if random.random() < 0.15:
        stage["settings"] = random.choice([None, ["width"], ["nested"], ["nested.rate", "width"]])
    metrics = [path for path in stage["deps"] if path in made and "." not in path]
    if metrics and random.random() < 0.5:
        stage["deps"].remove(metrics[0])
        stage["made"] = metrics[0]
    if random.random() < 0.25 and stage["file"] == "dvc.yaml":
        stage["shown"] = random.choice(KEYS[:2])
    model["stages"].insert(len(model["stages"]) if place is None else place, stage)


def new_stage(number: int, **fields: Any) -> Stage:
    stage: Stage = {
        "number": number,
        "deps": [],
        "outs": [{"path": f"out{number}", "kind": "file"}],
        "params": [],
        "settings": "none",
        "made": "",
        "shown": "",
        "group": {},
        "file": "dvc.yaml",
        "wdir": "",
        "shape": "text",
        "fail": "",
        "sleep": 0,
        "frozen": False,
        "always_changed": False,
        "constant": 0,
        "twins": True,
    }
    return stage | fields


def random_output(random: Random, number: int, position: int, kind: str) -> dict[str, Any]:
    place = random.choice(["", "", "data/", "sub/data/"])
    output = {"path": f"{place}out{number}{'ba'[position % 2]}{position}", "kind": kind}
    if random.random() < {"metrics": 0.8, "plots": 0.4}.get(kind, 0.1):
        output["cache"] = False
    if random.random() < 0.05:
        output["desc"] = "what it is"
    return output


def random_options(random: Random, model: Model) -> dict[str, Any]:
    draw = random.random()
    if draw < 0.65:
        return {}
    if draw < 0.7:
        return {"force": True}
    if draw < 0.75 and any(stage["file"] == "sub/dvc.yaml" for stage in model["stages"]):
        return {"folder": "sub"}
    stages = random.sample(model["stages"], min(len(model["stages"]), random.randint(1, 2)))
    if draw < 0.8:
        # Of several, DVC takes each as if it stood alone, in the order in which they are named.
        return {"targets": [targets(stages[0])[0]], "single_item": True, "force": random.random() < 0.3}
    options: dict[str, Any] = {"targets": [random.choice(targets(stage)) for stage in stages]}
    if random.random() < 0.5:
        options[random.choice(["downstream", "force"])] = True
    return options


def targets(stage: Stage) -> list[str]:
    prefix = "" if stage["file"] == "dvc.yaml" else f"{stage['file']}:"
    names = [f"{prefix}stage{stage['number']}{suffix}" for suffix in suffixes(stage, "@")]
    return [*names, f"{prefix}stage{stage['number']}", stage["file"]]


def edit(random: Random, model: Model, history: list[Model], copies: tuple[Path, Path]) -> None:
    """Change one thing in both copies, or in what will be written to them."""
    stage = random.choice(model["stages"])
    paths = [path for path in outputs(model) if all((root / path).exists() for root in copies)]
    kinds = [
        "source",
        "source",
        "param",
        "param",
        "settings",
        "command",
        "fail",
        "revert",
        "revert",
        "revert",
        "revert",
    ]
    kinds += ["add", "flag", "drop", "lock", "shape"] + ["delete", "delete", "tamper", "inside"] * bool(paths)
    # Of twins whose object is gone, DVC runs the one, and finds the other's object again.
    kinds += [] if model["twins"] else ["cache"]
    kind = random.choice(kinds)
    path = random.choice(paths or [""])
    if kind == "source":
        model["sources"][random.choice(list(model["sources"]))] = f"{random.randint(0, 99)}\n"
    elif kind == "param":
        key = random.choice(KEYS)
        model["params"][key] = random.choice(SCALARS if key in KEYS[:2] else VALUES)
    elif kind == "settings":
        model["settings"] = {"width": random.randint(0, 3), "nested": {"rate": random.randint(1, 9) / 1e6, "names": []}}
    elif kind == "command":
        stage["constant"] = random.randint(0, 9)
    elif kind == "shape":
        stage["shape"] = random.choice(["text", "list", "lines"])
    elif kind == "fail":
        failing = [each for each in model["stages"] if each["fail"]]
        random.choice(failing or [stage])["fail"] = "" if failing else random.choice(["first", "last", "missing"])
    elif kind == "revert":
        model.update(copy.deepcopy(random.choice(history)))
    elif kind == "add":
        add_stage(random, model, random.randint(0, len(model["stages"])))
    elif kind == "flag":
        flag = random.choice(["frozen", "always_changed"])
        stage[flag] = not stage[flag]
    elif kind == "drop" and len(model["stages"]) > 1:
        used = {path for each in model["stages"] for path in [*each["deps"], each["made"]]}
        if not used.intersection(stage_outputs(stage)):
            model["stages"].remove(stage)
    elif kind == "cache":
        number = random.random()
        for root in copies:
            if objects := sorted((root / ".dvc/cache/files").glob("md5/??/*")):
                objects[int(number * len(objects))].unlink()
    elif kind == "lock":
        lock = random.choice(["dvc.lock", "sub/dvc.lock"])
        for root in copies:
            (root / lock).unlink(missing_ok=True)
    elif path:
        inner = random.random()
        for root in copies:
            spoil(root / path, kind, inner)


def spoil(path: Path, kind: str, inner: float) -> None:
    """Delete an output, write another over it, or delete a file in it."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else []
    if kind == "inside" and files:
        files[int(inner * len(files))].unlink()
        return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if kind == "tamper":
        path.write_text("tampered with\n")


def write(model: Model, root: Path) -> None:
    """Bring the files of a model up to date; those that say the same already are left alone."""
    pipelines: dict[str, Any] = {"dvc.yaml": {"stages": {}}}
    for stage in model["stages"]:
        pipeline = pipelines.setdefault(stage["file"], {"stages": {}})
        pipeline["stages"][f"stage{stage['number']}"] = definition(stage)
    # YAML keeps no spelling of a number: these are texts.
    files = {"params.yaml": "".join(f"{key}: {value}\n" for key, value in model["params"].items())}
    files |= {"settings.json": json.dumps(model["settings"])} | model["sources"]
    for name, pipeline in pipelines.items():
        stream = io.StringIO()
        YAML(typ="safe", pure=True).dump(json.loads(json.dumps(pipeline)), stream)
        files[name] = stream.getvalue()
    if "sub/dvc.yaml" not in files:
        (root / "sub/dvc.yaml").unlink(missing_ok=True)
    for folder in (base(stage) for stage in model["stages"]):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            # It may be a link into the cache.
            path.unlink(missing_ok=True)
            path.write_text(text)


def definition(stage: Stage) -> dict[str, Any]:
    """Return a stage as dvc.yaml says it."""
    place = base(stage)
    suffix = named(stage)
    found: dict[str, Any] = {"cmd": commands(stage)}
    if stage["wdir"]:
        found["wdir"] = stage["wdir"]
    if stage["deps"]:
        found["deps"] = [os.path.relpath(path, place) for path in stage["deps"]]
    params: list[Any] = []
    if stage["params"]:
        file = os.path.relpath("params.yaml", place)
        params = list(stage["params"]) if file == "params.yaml" else [{file: stage["params"]}]
    if stage["settings"] != "none":
        params.append({os.path.relpath("settings.json", place): stage["settings"]})
    if stage["made"]:
        params.append({os.path.relpath(stage["made"], place): None})
    if params:
        found["params"] = params
    for output in stage["outs"]:
        flags = {key: output[key] for key in ("cache", "desc") if key in output}
        flags |= {"persist": True} if output["kind"] == "persist" else {}
        path = os.path.relpath(output["path"] + suffix, place)
        kind = output["kind"] if output["kind"] in ("metrics", "plots") else "outs"
        found.setdefault(kind, []).append({path: flags} if flags else path)
    for flag in ("frozen", "always_changed"):
        if stage[flag]:
            found[flag] = True
    if "matrix" in stage["group"]:
        return {**stage["group"], **found}
    return {**stage["group"], "do": found} if stage["group"] else found


def commands(stage: Stage) -> str | list[str]:
    place = base(stage)
    suffix = named(stage)
    sources = " ".join(os.path.relpath(path, place) for path in stage["deps"])
    read = f"find -L {sources} -type f | LC_ALL=C sort | xargs cat; " if sources else ""
    read += f"echo {stage['constant']}" + (f" ${{{stage['shown']}}}" if stage["shown"] else "")
    lines = [f'echo stage{stage["number"]}{suffix} >> "$DVC_ROOT/.dvc/tmp/began"', f"sleep {stage['sleep']}"]
    lines += ["exit 1"] * (stage["fail"] == "first")
    for output in stage["outs"][: -1 if stage["fail"] == "missing" else None]:
        path = Path(os.path.relpath(output["path"] + suffix, place))
        name = "same" if stage["twins"] else path.name
        lines.append(f"mkdir -p {path.parent}")
        if output["kind"] == "folder":
            lines.append(f"mkdir -p {path}/more && ({read} {name}) > {path}/all && echo {name} > {path}/more/one")
        elif output["kind"] in ("metrics", "plots"):
            lines.append(f"printf '{{\"{name}\": %s}}' $( ({read}) | wc -c) > {path}")
        else:
            lines.append(f"({read} {name}) {'>>' if output['kind'] == 'persist' else '>'} {path}")
            lines += [f"chmod +x {path}"] * (output["kind"] == "x")
    lines += ["exit 1"] * (stage["fail"] == "last")
    if stage["shape"] == "list":
        return lines
    return "\n".join(lines) if stage["shape"] == "lines" else " && ".join(lines)


def named(stage: Stage) -> str:
    """Return what tells the stages of a group apart, as dvc.yaml says it."""
    if "matrix" in stage["group"]:
        return "-${item.a}-${item.b}"
    if isinstance(stage["group"].get("foreach"), dict):
        return "-${key}"
    return "-${item}" if stage["group"] else ""


def suffixes(stage: Stage, mark: str) -> list[str]:
    if matrix := stage["group"].get("matrix"):
        return [f"{mark}{a}-{b}" for a in matrix["a"] for b in matrix["b"]]
    return [f"{mark}{key}" for key in stage["group"]["foreach"]] if stage["group"] else [""]


def stage_outputs(stage: Stage) -> list[str]:
    return [output["path"] + suffix for output in stage["outs"] for suffix in suffixes(stage, "-")]


def outputs(model: Model) -> list[str]:
    return [path for stage in model["stages"] for path in stage_outputs(stage)]


def base(stage: Stage) -> str:
    """Return the folder, seen from the root, in which a stage's commands run."""
    return str(Path(stage["file"]).parent / stage["wdir"])
