"""Parts of a model that a federation leaves as they are: they are neither trained nor sent."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from stages.common.errors import SettingError


@contextmanager
def frozen(model: nn.Module, parts: Sequence[str]) -> Iterator[None]:
    """Freeze trained parameters by names that stand, as whole words between dots, within theirs.

    Raises:
        SettingError: A part is not in the model or not trained, or nothing is left to train.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for part in parts:
        if not any(_within(part, name) for name in trained):
            known = ", ".join(dict.fromkeys(name.rpartition(".")[0] or name for name in trained))
            raise SettingError("freeze", f"no trained parameter is within `{part}`", f"the model has: {known}")
    chosen = [parameter for name, parameter in trained.items() if any(_within(part, name) for part in parts)]
    if len(chosen) == len(trained):
        raise SettingError("freeze", "nothing is left to train", "name fewer parts")
    for parameter in chosen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        # What the federation froze is the model's own all the same, and saved with it.
        for parameter in chosen:
            parameter.requires_grad_(True)


def _within(part: str, name: str) -> bool:
    return f".{part}." in f".{name}."
