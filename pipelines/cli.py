"""The command `assay`. Heavy imports stand inside the commands, so that `--help` answers at once."""

import os
import signal
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines import find_root
from stages.common.errors import InputError

if TYPE_CHECKING:
    from pipelines.runner import Outcome

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
PREFECT = "install it: {python} -m pip install -e '.[prefect]'; `dvc repro` does the same without it"


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
            help="Stages (train-joint@none), groups (train-joint) or studies (joint); all if none is given."
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Run one study and what it reads from.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run stages that are up to date, too.")] = False,
) -> None:
    """Run what changed, as `dvc repro` does, shown by Prefect stage by stage.

    Leaves the same dvc.lock and cache as `dvc repro`. Exit status: 0 all done, 1 a stage failed, 2 wrong input.
    """
    from pipelines import graph

    root = enter_project()
    _validate()
    wanted = [*(targets or []), *(graph.study_targets(study, root) if study else [])]
    plan = graph.read_plan(wanted)
    if not force and not graph.affected(plan):
        print(f"nothing to do: {len(plan)} stages are up to date")
        return
    if find_spec("prefect") is None:
        raise InputError("prefect", "not installed", PREFECT.format(python=sys.executable))
    # Left alone, a signal ends Python at once, and Prefect's temporary server lives on.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    from pipelines.flows import run_flow

    raise typer.Exit(_report(run_flow(wanted, force)))


@app.command()
def targets(study: Study) -> None:
    """Print a study's stages on one line: dvc repro $(assay targets joint)."""
    from pipelines.graph import study_targets

    print(*study_targets(study, enter_project()))


@app.command()
def validate() -> None:
    """Check params.yaml as a whole: every block, every cell, and what refers to what."""
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


def enter_project() -> Path:
    """Change to the root of the project and return it: stages and DVC read paths relative to it."""
    root = find_root(Path.cwd())
    if root is None:
        raise InputError(str(Path.cwd()), "no params.yaml here or above", "run from a clone of the project")
    os.chdir(root)
    return root


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _validate() -> None:
    from pipelines.parameters import validate
    from stages.common.settings import read_parameters

    validate(read_parameters())


def _report(outcomes: "list[Outcome]") -> int:
    width = max(len(outcome.stage) for outcome in outcomes)
    for outcome in outcomes:
        print(f"{outcome.stage:{width}}  {outcome.status:8}  {outcome.seconds:8.1f} s")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        print(f"\n{outcome.stage} failed; the last lines of its output:", *outcome.tail, sep="\n", file=sys.stderr)
    return int(bool(failed))
