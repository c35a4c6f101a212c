"""`assay run` leaves what serial `dvc repro` leaves on the graphs of two public projects, with commands of our own.

iterative/example-get-started: imported data, four stages in a line with a shortcut, parameters, metrics, plots and
artifacts. CCRI-POPROX/poprox-recommender: four dvc.yaml, variables, `foreach` over lists, a `matrix`, folders of code
and of added models as inputs, and folders as inputs in which other stages have made some files.
"""

import contextlib
import subprocess
from pathlib import Path

from dvc.repo import Repo

from tests.pipelines.comparison import compare

# Says that it began, then makes each of its outputs from all of its inputs; an output that ends with / is a folder.
TOOL = """\
#!/bin/sh
echo "$1" >> "$DVC_ROOT/.dvc/tmp/began"
shift
inputs=
while [ "$1" != to ]; do inputs="$inputs $1"; shift; done
shift
read=$(find -L $inputs -type f | LC_ALL=C sort | xargs cat | cksum)
for output in "$@"; do
    case "$output" in
        */) mkdir -p "$output/more" && echo "$read" > "$output/more/all" && echo "$output" > "$output/name" ;;
        *) mkdir -p "$(dirname "$output")" && printf '{"%s": %s}' "$(basename "$output")" "${read% *}" > "$output" ;;
    esac
done
"""
GET_STARTED = {
    "params.yaml": "prepare: {split: 0.20, seed: 20170428}\nfeaturize: {max_features: 100, ngrams: 1}\n"
    "train: {seed: 20170428, n_est: 50, min_split: 0.01}\n",
    "dvc.yaml": """\
artifacts:
  questions: {path: data/data.xml, type: dataset, desc: What is asked}
stages:
  prepare:
    cmd: sh tool.sh prepare src/prepare.py data/data.xml to data/prepared/
    deps: [data/data.xml, src/prepare.py]
    params: [prepare.seed, prepare.split]
    outs: [data/prepared]
  featurize:
    cmd: sh tool.sh featurize src/featurize.py data/prepared to data/features/
    deps: [data/prepared, src/featurize.py]
    params: [featurize.max_features, featurize.ngrams]
    outs: [data/features]
  train:
    cmd: sh tool.sh train src/train.py data/features to model.bin
    deps: [data/features, src/train.py]
    params: [train.min_split, train.n_est, train.seed]
    outs: [model.bin]
  evaluate:
    cmd: sh tool.sh evaluate src/evaluate.py model.bin data/features to eval/metrics.json eval/roc.json eval/images/
    deps: [data/features, model.bin, src/evaluate.py]
    outs: [eval/images]
    metrics: [{eval/metrics.json: {cache: false}}]
    plots: [{eval/roc.json: {cache: false}}]
plots:
  - ROC: {x: fpr, y: {eval/roc.json: tpr}}
""",
    **{f"src/{name}.py": name for name in ("prepare", "featurize", "train", "evaluate")},
}
GET_STARTED_EDITS = [
    {"params.yaml": GET_STARTED["params.yaml"].replace("n_est: 50", "n_est: 100")},
    {"src/featurize.py": "featurize otherwise"},
    {"params.yaml": GET_STARTED["params.yaml"], "src/featurize.py": "featurize"},
]
RECOMMENDER = {
    "dvc.yaml": """\
vars:
  - pipelines: [plain, softmax, ranked, topics]
stages:
  recommend-large:
    foreach: ${pipelines}
    do:
      cmd: sh tool.sh recommend-large@${item} src/generate src/configurations/${item}.py models/news data/large
        to outputs/large/${item}/list outputs/large/${item}/embeddings outputs/large/${item}/task.json
      deps: [src/generate/, "src/configurations/${item}.py", models/news/, data/large]
      outs:
        - outputs/large/${item}/list
        - outputs/large/${item}/embeddings
        - outputs/large/${item}/task.json
  measure-large:
    foreach: ${pipelines}
    do:
      cmd: sh tool.sh measure-large@${item} src/evaluate.py outputs/large/${item}/list data/large
        to outputs/large/${item}/rows outputs/large/${item}/metrics.json
      deps: [src/evaluate.py, data/large, "outputs/large/${item}/list"]
      outs: ["outputs/large/${item}/rows"]
      metrics: [{"outputs/large/${item}/metrics.json": {cache: false}}]
  recommend-recent:
    foreach: ${pipelines}
    do:
      cmd: sh tool.sh recommend-recent@${item} src/generate models/news data/small to outputs/recent/${item}/list
      deps: [src/generate/, models/news/, data/small]
      outs: ["outputs/recent/${item}/list"]
  recommend-latest:
    foreach: ${pipelines}
    do:
      cmd: sh tool.sh recommend-latest@${item} src/generate models/news data/small to outputs/latest/${item}/list
      deps: [src/generate/, models/news/, data/small]
      outs: ["outputs/latest/${item}/list"]
  measure-snapshots:
    matrix:
      data: [recent, latest]
      pipeline: ${pipelines}
    cmd: sh tool.sh measure-snapshots@${item.data}-${item.pipeline} src/evaluate.py
      outputs/${item.data}/${item.pipeline}/list
      to outputs/${item.data}/${item.pipeline}/rows outputs/${item.data}/${item.pipeline}/metrics.json
    deps: [src/evaluate.py, "outputs/${item.data}/${item.pipeline}/list"]
    outs: ["outputs/${item.data}/${item.pipeline}/rows"]
    metrics: [{"outputs/${item.data}/${item.pipeline}/metrics.json": {cache: false}}]
  collect-metrics:
    foreach: [large, recent]
    do:
      cmd: sh tool.sh collect-metrics@${item} src/collect.py outputs/${item} to outputs/${item}-rows outputs/${item}.csv
      deps: [src/collect.py, "outputs/${item}/"]
      outs: ["outputs/${item}-rows", {"outputs/${item}.csv": {cache: false}}]
""",
    "data/dvc.yaml": """\
stages:
  unzip:
    foreach: [large, small, train]
    do:
      cmd: sh ../tool.sh unzip@${item} ${item}.zip to ${item}/
      deps: ["${item}.zip"]
      outs: ["${item}"]
  preprocess:
    cmd: sh ../tool.sh preprocess ../src/preprocess.py train large to post-train/ post-large/
    deps: [../src/preprocess.py, train, large]
    outs: [post-train, post-large]
""",
    "models/dvc.yaml": """\
stages:
  train:
    cmd: sh ../tool.sh train ../src/train.py ../data/post-train to retrained/
    deps: [../src/train.py, ../data/post-train]
    outs: [retrained]
""",
    "notebooks/dvc.yaml": """\
stages:
  render:
    foreach: {Large: {data: large}, Recent: {data: recent}}
    do:
      wdir: ..
      cmd: sh tool.sh render@${key} notebooks/template outputs/${item.data}.csv to notebooks/${key}.html
      deps: [notebooks/template, "outputs/${item.data}.csv"]
      outs: ["notebooks/${key}.html"]
""",
    **{f"src/configurations/{name}.py": name for name in ("plain", "softmax", "ranked", "topics")},
    **{f"src/{name}": name for name in ("generate/one.py", "generate/more/two.py", "evaluate.py", "collect.py")},
    **{f"src/{name}": name for name in ("preprocess.py", "train.py")},
    "models/news/config.json": "{}",
    "notebooks/template": "template",
}
RECOMMENDER_ADDED = {
    **{f"data/{name}.zip": name for name in ("large", "small", "train")},
    **{f"models/news/{name}.weights": name for name in ("news", "user")},
}
RECOMMENDER_EDITS = [
    {"src/configurations/ranked.py": "ranked otherwise"},
    {"src/evaluate.py": "evaluate otherwise"},
    {"dvc.yaml": RECOMMENDER["dvc.yaml"].replace("ranked, ", "")},
    {"src/evaluate.py": "evaluate.py", "dvc.yaml": RECOMMENDER["dvc.yaml"]},
]


def test_get_started(copies: tuple[Path, Path], tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    save(registry, {"data.xml": "<row/>"})
    git(registry, "init", "--quiet")
    Repo.init(str(registry)).close()
    add(registry, ["data.xml"])
    git(registry, "add", "--all")
    git(registry, "commit", "--quiet", "--message", "data")
    for root in copies:
        save(root, GET_STARTED | {"data/.keep": ""})
        with contextlib.chdir(root), Repo() as repo:
            repo.imp(str(registry), "data.xml", out="data/data.xml")
    follow(copies, GET_STARTED_EDITS, targets=["train"])


def test_recommender(copies: tuple[Path, Path]) -> None:
    for root in copies:
        save(root, RECOMMENDER | RECOMMENDER_ADDED)
        add(root, list(RECOMMENDER_ADDED))
    targets = ["measure-large", "notebooks/dvc.yaml", "models/dvc.yaml:train"]
    follow(copies, RECOMMENDER_EDITS, targets)


def follow(copies: tuple[Path, Path], edits: list[dict[str, str]], targets: list[str]) -> None:
    """Run some targets, then everything, then everything after each edit."""
    for root in copies:
        (root / "tool.sh").write_text(TOOL)
    compare(*copies, {"targets": targets}, "targets")
    compare(*copies, {}, "everything")
    for number, edit in enumerate(edits):
        for root in copies:
            save(root, edit)
        compare(*copies, {}, f"edit {number}")


def save(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def add(root: Path, paths: list[str]) -> None:
    with contextlib.chdir(root), Repo() as repo:
        repo.add(paths)


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True)
