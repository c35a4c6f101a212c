"""The verbs whose results are reported, in reading order: one table that the rest asks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """A verb of a study.

    Args:
        name: Of the package under `stages`.
        step: The step of a study whose table shows what it measures.
        fits: Whether it leaves a model.
        targets: Whether its cells name the cell of `train` that they attack.
        guarantees: Whether what it attacks has a guarantee of its own, so that its cells have names of their own.
        curve: The small series that a figure of it is drawn from, if it has one.
    """

    name: str
    step: str
    fits: bool = False
    targets: bool = False
    guarantees: bool = False
    curve: str | None = None


VERBS = {
    verb.name: verb
    for verb in (
        Verb("partition", "partition", curve="holdings"),
        Verb("train", "train", fits=True),
        Verb("federate", "train", fits=True, curve="history"),
        Verb("distill", "train", fits=True),
        Verb("shadow", "shadow"),
        Verb("attack", "attack", curve="roc"),
        Verb("audit", "audit"),
        Verb("extract", "extract", targets=True),
        Verb("invert", "invert", targets=True, guarantees=True),
        Verb("score", "score"),
    )
}
FITTING = tuple(verb.name for verb in VERBS.values() if verb.fits)
# Those with a grid in a study's block: a partition is shared by studies.
OF_STUDIES = tuple(name for name in VERBS if name != "partition")
