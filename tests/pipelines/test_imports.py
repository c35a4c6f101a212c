from pathlib import Path

import pytest

from pipelines.imports import sources

FILES = {
    "stages/__init__.py": "",
    "stages/errors.py": "import json\n",
    "stages/shared.py": "from stages import errors\n",
    "stages/unused.py": "",
    "stages/fit/__init__.py": "from stages.fit.settings import Settings\n",
    "stages/fit/__main__.py": "import numpy as np\nfrom .work import run\n",
    "stages/fit/work.py": "def run():\n    import stages.deep.inner.leaf as leaf\n    from stages.shared import x\n",
    "stages/fit/settings.py": "class Settings: ...\n",
    "stages/fit/page.html": "<p>",
    "stages/fit/themes/dark.css": "p {}",
    "stages/fit/README.md": "",
    "stages/fit/.hidden": "",
    "stages/fit/__pycache__/work.cpython-311.pyc": "",
    "stages/deep/__init__.py": "",
    "stages/deep/inner/__init__.py": "from ... import errors\n",
    "stages/deep/inner/leaf.py": "",
    "stages/deep/other.py": "",
    "stages/other/__init__.py": "",
    "stages/other/__main__.py": "",
    "stages/other/data.yaml": "",
    "numbers.py": "",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_sources_follow_all_imports_and_take_data_files(tree):
    assert sources("fit", tree) == [
        "stages/__init__.py",
        "stages/deep/__init__.py",
        "stages/deep/inner/__init__.py",
        "stages/deep/inner/leaf.py",
        "stages/errors.py",
        "stages/fit/__init__.py",
        "stages/fit/__main__.py",
        "stages/fit/page.html",
        "stages/fit/settings.py",
        "stages/fit/themes/dark.css",
        "stages/fit/work.py",
        "stages/shared.py",
    ]


def test_sources_of_a_small_verb(tree):
    assert sources("other", tree) == [
        "stages/__init__.py",
        "stages/other/__init__.py",
        "stages/other/__main__.py",
        "stages/other/data.yaml",
    ]
