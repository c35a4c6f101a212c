"""Settings of one extraction cell: `<study>.extract` in params.yaml."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from stages.common.settings import Seeds, Settings


class ExtractSettings(Settings):
    """The secrets of the models of the cell of `train` that has the same name, trained with a `secret`, are completed.

    Attributes:
        dataset: The study's.
        seeds: Of the attacked models; each is a trial with a secret of its own.
        signal: What an answer is judged by: the loss of the canary's intent and tags, or that of the intent alone. By
            the first the search takes gradients, by the second it tries tokens.
        steps: Of Adam, or passes over the words of the secret, at most.
        learning_rate: Of Adam.
        restarts: Starts that are optimised at once; the best answer of all counts.
        temperature: T of the softmax that mixes candidates, for Adam.
        gumbel: Whether each step of Adam adds Gumbel noise to the logits.
        label_knowledge: Whether the attacker knows the canary's intent and tags. If not, those that the model itself
            finds most likely stand in for them: a code is then as good as the model is sure of anything.
    """

    dataset: str
    seeds: Seeds
    signal: Literal["joint", "label"] = "joint"
    steps: int = Field(1000, ge=1)
    learning_rate: float = Field(0.02, gt=0)
    restarts: int = Field(10, ge=1)
    temperature: float = Field(1.0, gt=0)
    gumbel: bool = False
    label_knowledge: bool = True

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides its models, which is nothing."""
        return []
