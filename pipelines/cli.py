"""The command `assay`. Heavy imports stand inside the commands, so that `--help` answers at once."""

import os
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines import find_root
from stages.common.errors import InputError

app = typer.Typer(
    help="Show how private, robust and fair a text model is, and let anyone repeat it.",
    epilog="`dvc repro` runs everything too, without Prefect. Every verb: python -m stages.<verb> --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
profile = typer.Typer(help="Change the sizes of all studies at once.", no_args_is_help=True)
app.add_typer(profile, name="profile")

Study = Annotated[str, typer.Argument(help="Name of a study: a block of params.yaml, such as joint.")]


def main() -> None:
    """Run the command line; exit 2 with one line on stderr for what the user can mend."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("pipelines", "stages"):
            raise
        print(f"error: {error.name}: not installed; `make install` installs everything", file=sys.stderr)
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"assay {version('assay')}")
        raise typer.Exit


@app.callback()
def assay(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Show how private, robust and fair a text model is, and let anyone repeat it."""


@app.command()
def run(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Stages (train-joint@none), groups (train-joint), studies (joint), files; ./dvc.yaml if none is given."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Stages at once; as many as cores.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Run stages that are up to date, too.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="After a failure, run all that does not depend on it.")
    ] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Fetch missing data and results from the DVC remote.")] = False,
    single_item: Annotated[
        bool, typer.Option("--single-item", "-s", help="Run the targets only, not what they read from.")
    ] = False,
    downstream: Annotated[bool, typer.Option("--downstream", help="Run the targets and what reads from them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and why; run nothing.")] = False,
    runner: Annotated[
        Literal["local", "ray"], typer.Option(help="Where stages run: here, or on the nodes of a Ray cluster.")
    ] = "local",
    address: Annotated[
        str, typer.Option(envvar="RAY_ADDRESS", help="Of the Ray cluster; auto: the one this machine is part of.")
    ] = "auto",
    no_prefect: Annotated[bool, typer.Option("--no-prefect", help="Run without Prefect; same result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON, and nothing else.")] = False,
) -> None:
    """Run what changed, in parallel, in any DVC repository; leave exactly what `dvc repro` would have left.

    Ctrl-C once: no more stages begin. Twice: those that run are ended. What is finished is kept either way.
    Exit status: 0 all done, 1 a stage failed or the run was stopped, 2 wrong input.
    """
    from pipelines import execution
    from pipelines.session import Request

    if is_project(Path.cwd()):
        enter_project()
        _validate()
    raise typer.Exit(
        execution.run(
            Request(
                targets=tuple(targets or ()),
                jobs=jobs,
                force=force,
                keep_going=keep_going,
                pull=pull,
                single_item=single_item,
                downstream=downstream,
                ray=address if runner == "ray" else None,
            ),
            dry_run=dry_run,
            prefect=not no_prefect,
            as_json=as_json,
        )
    )


@app.command()
def serve(
    nightly: Annotated[str, typer.Option(help="When to run everything, as cron takes it.")] = "0 2 * * *",
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Stages at once; as many as cores.")] = None,
    report: Annotated[str | None, typer.Option(help="Address of the report page, linked from each run.")] = None,
) -> None:
    """Register the project's deployments on a running Prefect server, and run what it schedules until stopped.

    Start the server first: prefect server start; then PREFECT_API_URL=http://127.0.0.1:4200/api assay serve.
    """
    from pipelines.execution import check_prefect
    from pipelines.graph import staged_studies

    check_prefect()
    if not os.environ.get("PREFECT_API_URL"):
        raise InputError(
            "PREFECT_API_URL", "not set", "`prefect server start`, then set it to http://127.0.0.1:4200/api"
        )
    root = repository_root(Path.cwd())
    os.chdir(root)
    from pipelines.flows import serve_deployments

    serve_deployments(staged_studies(root), nightly, jobs, report)


@app.command()
def targets(study: Study) -> None:
    """Print a study's stages on one line: dvc repro $(assay targets joint)."""
    from pipelines.graph import study_targets

    print(*study_targets(study, enter_project()))


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A commit, tag or branch.")] = "HEAD",
    after: Annotated[str | None, typer.Argument(help="Another; the working tree if not given.")] = None,
    form: Annotated[
        Literal["table", "markdown", "json", "csv"], typer.Option("--format", help="How to print it.")
    ] = "table",
    fail_on: Annotated[Literal["worse"] | None, typer.Option(help="Exit with 1 if a metric got worse, for CI.")] = None,
) -> None:
    """Compare results of two states of the project, with their noise in mind, and say why they differ.

    Nothing is checked out. A metric is better or worse if its mean over the seeds that both share moved by more than
    the seeds and the tolerance (`diff` in params.yaml) allow.
    Exit status: 0 compared, 1 with --fail-on if something got worse, 2 wrong input.
    """
    from pipelines.compare import compare
    from pipelines.results import show_comparison
    from pipelines.revisions import open_files

    enter_project()
    found = compare(open_files(before), open_files(after))
    with _printing():
        show_comparison(found, form)
    raise typer.Exit(int(fail_on == "worse" and bool(found.worse)))


@app.command()
def claims(
    study: Annotated[str | None, typer.Argument(help="One study; all if not given.")] = None,
) -> None:
    """Show what the papers state and what came of it, as of the last report."""
    from pipelines.results import show_claims

    enter_project()
    with _printing():
        show_claims(study)


@app.command()
def show(study: Study) -> None:
    """Show a study's comparison tables, from the metrics as they are now."""
    from pipelines.results import show_study

    enter_project()
    with _printing():
        show_study(study)


@app.command()
def report(
    opened: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
) -> None:
    """Write the report of what is measured, if it is not up to date, and say where its page is; train nothing."""
    from pipelines import execution
    from pipelines.session import Request

    root = enter_project()
    _validate()
    page = root / "reports" / "index.html"
    if status := execution.run(
        Request(targets=("report",), single_item=True), dry_run=False, prefect=False, as_json=False
    ):
        raise typer.Exit(status)
    print(page)
    if opened and not webbrowser.open(page.as_uri()):
        raise InputError(str(page), "no browser found here", "open it on a machine that has one; it is one file")


@app.command()
def crate(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The archive to write; reports/crate.zip if not given.")
    ] = None,
) -> None:
    """Pack the last run as a Workflow Run RO-Crate: what git holds, and which command made what from what.

    Needs results that are up to date. Data, models, membership and the page stay here, named with their hashes.
    """
    from pipelines.crate import write_crate

    root = repository_root(Path.cwd())
    target = (path or root / "reports" / "crate.zip").resolve()
    os.chdir(root)
    write_crate(target, root)
    print(target)


@app.command()
def validate() -> None:
    """Check params.yaml as a whole (every block, every cell, what refers to what) and the claims files."""
    enter_project()
    _validate()
    print("params.yaml: valid")


@app.command()
def doctor() -> None:
    """Say what is here, what would run, and what is missing with the command to get it; exit 1 if it is needed."""
    from pipelines.doctor import examine

    enter_project()
    checks = list(examine())
    for check in checks:
        print(check)
    raise typer.Exit(int(any(check.state == "missing" for check in checks)))


@profile.command("use")
def use_profile(
    name: Annotated[str, typer.Argument(help="Profile: a file in profiles/, without its suffix.")],
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite edits of params.yaml that no profile holds.")
    ] = False,
) -> None:
    """Write params.yaml from a profile, so that git and DVC see what changed."""
    from pipelines import profiles

    enter_project()
    profiles.use(name, force)
    print(f"params.yaml: profile {name}")
    _validate()


@profile.command("show")
def show_profile(
    name: Annotated[str | None, typer.Argument(help="Profile; the one params.yaml names if not given.")] = None,
) -> None:
    """List what a profile would change in params.yaml: key: now -> then."""
    from pipelines import profiles
    from stages.common.settings import read_parameters

    enter_project()
    shown = name or str(read_parameters().get("profile"))
    changes = profiles.differences(shown)
    print(f"{shown} (of {', '.join(profiles.available())}): {len(changes) or 'no'} settings differ from params.yaml")
    print(*changes, sep="\n")


@contextmanager
def _printing() -> Iterator[None]:
    """Print for whoever may have enough before the end, as `head` has: that is no error and no finding."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # rich leaves the program then. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def repository_root(start: Path) -> Path:
    """Return the DVC repository around a folder."""
    if root := next((folder for folder in (start, *start.parents) if (folder / ".dvc").is_dir()), None):
        return root
    raise InputError(str(start), "no DVC repository here or above", "`git init` and `dvc init` start one")


def is_project(folder: Path) -> bool:
    """Whether a folder is in a clone of this project, rather than in some other DVC repository."""
    root = find_root(folder)
    return root is not None and (root / "profiles").is_dir() and (root / "stages" / "common").is_dir()


def enter_project() -> Path:
    """Change to the root of the project and return it: stages and DVC read paths relative to it."""
    root = find_root(Path.cwd())
    if root is None:
        raise InputError(str(Path.cwd()), "no params.yaml here or above", "run from a clone of the project")
    os.chdir(root)
    return root


def _validate() -> None:
    from pipelines.parameters import validate
    from stages.common.settings import read_parameters
    from stages.results.claims import CLAIMS, read_claims

    validate(read_parameters())
    for path in sorted(CLAIMS.glob("*.yaml")):
        read_claims(path)
