"""Settings that every cell has which fits a model."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from stages.common.measurements import Role
from stages.common.paths import partition_path, prepared_path
from stages.common.settings import Seeds, Settings

SPLITS = ("train", "valid", "test")


class CellSettings(Settings):
    """Data, model, seeds, and which examples the model may see: a split of the partition, or all of train."""

    mechanism: str
    dataset: str
    model: str
    seeds: Seeds
    partition: str | None = None
    train_on: Literal["train", "member", "nonmember", "reserve"]
    role: Role = "model"
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)

    @model_validator(mode="after")
    def _a_split_needs_a_partition(self) -> Self:
        if self.train_on != "train" and self.partition is None:
            raise ValueError(f"train_on: {self.train_on} needs `partition`, one with `membership`")
        return self

    @property
    def dealt(self) -> bool:
        """Whether each example must belong to a client."""
        return False

    @property
    def planted(self) -> int:
        """How many canaries are drawn, of which about half are trained on."""
        return 0

    def cautions(self, examples: int) -> list[tuple[str, str, str]]:
        """Return what is allowed but hardly meant, with so many training examples: setting, problem, remedy."""
        del examples
        return []

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads: dvc.yaml must declare it."""
        read = [prepared_path(self.dataset, split) for split in SPLITS]
        if self.dealt or self.train_on != "train":
            read.append(partition_path(str(self.partition)))
        return read
