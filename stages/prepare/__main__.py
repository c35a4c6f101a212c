"""The command of the verb `prepare`: settings in, tables out."""

from stages.common import paths
from stages.common.command import arguments, run
from stages.common.settings import read_parameters
from stages.prepare.preparation import prepare, write
from stages.prepare.settings import dataset_settings


def main() -> str:
    """Prepare the data set that the command line names, and return the run's name."""
    name: str = arguments("prepare", "Turn a source of text into clean, split, documented tables.", "dataset").dataset
    write(prepare(name, dataset_settings(read_parameters(), name)), paths.PREPARED / name)
    return f"prepare-{name}"


if __name__ == "__main__":
    run(main)
