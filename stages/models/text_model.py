"""What a cell may fit: whatever reads encoded texts, has a loss for each, and can be measured."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor, nn

from stages.common.measurements import Measurement
from stages.models.encoders import CHUNK, EncodedText
from stages.models.examples import Examples, Vocabulary
from stages.models.settings import AnyModelSettings

# (what the model says of some rows, those rows) -> their losses
Objective = Callable[[Any, Tensor], Tensor]


class TextModel(nn.Module, ABC):
    """A network over texts; calling it with a batch of `inputs` gives what it says of each.

    Args:
        settings: The model's block of params.yaml.

    Attributes:
        chunk: Texts at a time where no gradient is kept.
    """

    chunk: int = CHUNK

    def __init__(self, settings: AnyModelSettings) -> None:
        super().__init__()
        self.settings = settings

    @staticmethod
    @abstractmethod
    def read(table: pd.DataFrame, settings: Any, known: Vocabulary) -> Examples:
        """Encode a prepared table for a model of these settings, given the labels and tags of the data."""

    @classmethod
    def build(cls, settings: Any, labels: int, tags: int) -> Self:
        """Return a new model for data with so many labels and tags."""
        del labels, tags
        return cls(settings)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def inputs(self, text: EncodedText) -> tuple[Tensor, ...]:
        """Return what `forward` takes, first dimension n; what no training changes is computed here, once."""
        return text.ids.to(self.device), text.lengths.to(self.device)

    @abstractmethod
    def objective(self, examples: Examples) -> Objective:
        """Return the objective that the model is trained with on `examples`, one value per row."""

    @abstractmethod
    def utility(self, examples: Examples, known: Vocabulary, split: str, seed: int) -> dict[str, Measurement]:
        """Return how well the model does, by metric as `split/metric`.

        Args:
            examples: What it is measured on.
            known: Labels and tags of the data.
            split: How the metrics name the examples.
            seed: Of the bootstrap.
        """
