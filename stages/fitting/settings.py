"""Settings that every cell has which fits a model."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.common.settings import Seeds, Settings


class CellSettings(Settings):
    """Data, model, seeds, and which examples the model may see: a split of the partition, or all of train."""

    dataset: str
    model: str
    seeds: Seeds
    partition: str | None = None
    train_on: Literal["train", "member", "nonmember", "reserve"]
    role: str = "model"
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)

    @model_validator(mode="after")
    def _a_split_needs_a_partition(self) -> Self:
        if self.train_on != "train" and self.partition is None:
            raise ValueError(f"train_on: {self.train_on} needs `partition`, one with `membership`")
        return self
