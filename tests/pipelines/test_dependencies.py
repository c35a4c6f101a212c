import subprocess
import sys
from pathlib import Path

from pipelines.dependencies import outdated, rewrite

ROOT = Path(__file__).parents[2]
PIPELINE = """\
# Top.
stages:
  fit: # what it does
    foreach: ${all}
    do:
      cmd: python -m stages.fit --cell ${item}
      deps:
        - stages/gone.py
        - data/${item} # a comment
      outs:
        - out
  plain:
    cmd: python -m stages.fit
  shell:
    cmd: echo
    deps:
      - stages/fit/__main__.py
"""


def test_every_stage_lists_exactly_the_code_it_imports():
    wrong = outdated(ROOT)
    lists = "\n".join(f"{name}:\n" + "\n".join(f"      - {path}" for path in paths) for name, paths in wrong.items())
    assert not wrong, f"run `make dependencies`, or paste these lists of code into dvc.yaml:\n{lists}"


def test_rewrite_corrects_the_lists_and_keeps_the_rest(tmp_path):
    (tmp_path / "stages/fit").mkdir(parents=True)
    (tmp_path / "stages/fit/__main__.py").write_text("")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    assert outdated(tmp_path) == {name: ["stages/fit/__main__.py"] for name in ("fit", "plain")}
    assert rewrite(tmp_path) == ["fit", "plain"]
    text = (tmp_path / "dvc.yaml").read_text()
    assert "# Top." in text
    assert "fit: # what it does" in text
    assert "- stages/fit/__main__.py\n        - data/${item}" in text
    assert "stages/gone.py" not in text
    assert outdated(tmp_path) == {}
    assert rewrite(tmp_path) == []


def test_command(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {shell: {cmd: echo}}")
    said = subprocess.run(
        [sys.executable, "-m", "pipelines.dependencies"], cwd=tmp_path, capture_output=True, text=True
    )
    assert said.stdout == "dvc.yaml: every code list is right\n"
