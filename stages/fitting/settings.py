"""Settings that every cell has which fits a model."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.settings import Settings


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("each seed must be given once")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]


class CellSettings(Settings):
    """Data, model, seeds, and the examples the model may see: `fit` is a split of the partition, or all of train."""

    dataset: str
    model: str
    seeds: Seeds
    partition: str | None = None
    fit: Literal["train", "member", "nonmember", "reserve"]
    role: str = "model"
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)

    @model_validator(mode="after")
    def _fit_needs_a_partition(self) -> Self:
        if self.fit != "train" and self.partition is None:
            raise ValueError(f"fit: {self.fit} needs `partition`, one with `membership`")
        return self
