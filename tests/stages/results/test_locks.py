from stages.results.locks import locked_versions, versions_here

LOCK = (
    "Some.Data==1.0 \\\n    --hash=sha256:0\n"
    "numpy==2.4.6 ; python_full_version < '3' \\\n    --hash=sha256:1\n"
    "numpy==2.5.5 ; python_full_version >= '3'\n"
)
PROJECT = 'dependencies = [\n    "torch==2.13.0",\n    "typer>=0.16,<1",\n]\n'


def test_versions_are_read_from_requirements_and_from_a_pyproject() -> None:
    assert locked_versions(LOCK, PROJECT) == {"Some.Data": "1.0", "numpy": "2.4.6 or 2.5.5", "torch": "2.13.0"}


def test_versions_of_this_python_have_canonical_names() -> None:
    assert versions_here(LOCK) == {"some-data": "1.0", "numpy": "2.5.5"}


def test_what_pip_allows_behind_a_version_is_passed_over() -> None:
    assert locked_versions("a==1 --hash=sha256:0\nb==2 # why\nc>=3\n# d==4\n-r e==5\n") == {"a": "1", "b": "2"}
