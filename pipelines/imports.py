"""Which project files a verb needs: what it imports, followed through, and the data files beside that code."""

import ast
from collections.abc import Iterator
from pathlib import Path


def sources(verb: str, root: Path) -> list[str]:
    """Return the files of the project that `python -m stages.<verb>` reads as code, sorted, as posix paths.

    Imports inside functions count. An import that is not a statement (importlib) cannot be seen.
    """
    found: set[Path] = set()
    waiting = set(_files(root, f"stages.{verb}.__main__"))
    while waiting:
        path = waiting.pop()
        found.add(path)
        for module in _imported(path, root):
            waiting |= set(_files(root, module)) - found
    return sorted(path.relative_to(root).as_posix() for path in found | _data(found, root))


def _imported(path: Path, root: Path) -> Iterator[str]:
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            # A name may be a module of the package or something defined in it: _files tells.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _files(root: Path, module: str) -> Iterator[Path]:
    # Importing a.b.c runs a/__init__.py and a/b/__init__.py first.
    folder = root
    for part in module.split("."):
        if (file := folder / f"{part}.py").is_file():
            yield file
        folder = folder / part
        if (package := folder / "__init__.py").is_file():
            yield package


def _data(modules: set[Path], root: Path) -> set[Path]:
    folders = {path.parent for path in modules if path.parent.parent != root}
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    code = {".py", ".pyc", ".md"}
    return {path for path in files if path.suffix not in code and not path.name.startswith(".")}
