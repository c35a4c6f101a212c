"""Settings of one extraction cell: `<study>.extract` in params.yaml."""

from pathlib import Path

from pydantic import Field

from stages.common.settings import Seeds, Settings


class ExtractSettings(Settings):
    """An extraction from the models of the cell of `train` that has the same name, trained with a `secret`.

    Attributes:
        dataset: The study's.
        seeds: Of the attacked models; each is a trial, with a secret of its own.
        steps: Of Adam, at most.
        learning_rate: Of Adam.
        restarts: Starts that are optimised at once; the best answer of all counts.
        temperature: T of the softmax that mixes candidates.
        gumbel: Whether each step adds Gumbel noise to the logits.
        label_knowledge: Whether the attacker knows the canary's intent and tags. If not, those that the model itself
            finds most likely stand in for them: a code is then as good as the model is sure of anything.
    """

    dataset: str
    seeds: Seeds
    steps: int = Field(1000, ge=1)
    learning_rate: float = Field(0.02, gt=0)
    restarts: int = Field(10, ge=1)
    temperature: float = Field(1.0, gt=0)
    gumbel: bool = False
    label_knowledge: bool = True

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides its models, where the secrets stand too: nothing."""
        return []
