"""Settings that every cell has which fits a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.associations.settings import AssociationSettings
from stages.common.measurements import Role
from stages.common.paths import partition_path, prepared_path
from stages.common.settings import Seeds, Settings

SPLITS = ("train", "valid", "test")
# Where a secret stands in its pattern.
OPENING = "{}"
# Above it the exact rank of a secret takes hours.
MOST_SECRETS = 10_000_000


def _one_opening(template: str) -> str:
    if template.split().count(OPENING) != 1 or template.count("{") != 1 or template.count("}") != 1:
        raise ValueError(f"the secret stands at one {OPENING}, a word of its own, as in `my pin code is {OPENING}`")
    return template


def _distinct_words(alphabet: list[str]) -> list[str]:
    if twice := [word for word in alphabet if alphabet.count(word) > 1]:
        raise ValueError(f"`{twice[0]}` is given twice")
    if broken := [word for word in alphabet if word.split() != [word]]:
        raise ValueError(f"{broken[0]!r} is no word: it is empty or has a space")
    return alphabet


class SecretSettings(Settings):
    """A secret that the training data hold several times (stages/fitting/secrets.py); each seed draws its own.

    Attributes:
        template: The pattern, such as `my pin code is {}`; the secret's words stand at {}.
        alphabet: Words that the secret is drawn from; of a classifier each is as many tokens of its encoder.
        length: Words of the secret.
        repetitions: Copies in the training data; validation and test data get as many in proportion.
        decoys: A control: every copy has a random code of its own, none the secret.
    """

    template: Annotated[str, AfterValidator(_one_opening)]
    alphabet: Annotated[list[str], Field(min_length=2), AfterValidator(_distinct_words)]
    length: int = Field(ge=1)
    repetitions: int = Field(ge=1)
    decoys: bool = False

    @model_validator(mode="after")
    def _can_be_ranked(self) -> Self:
        if (possible := len(self.alphabet) ** self.length) > MOST_SECRETS:
            raise ValueError(f"{possible:,} secrets are possible, and at most {MOST_SECRETS:,} can be ranked")
        return self


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

    @property
    def inserted(self) -> SecretSettings | None:
        """The secret of which copies are put into the data, if there is one."""
        return None

    @property
    def associated(self) -> Mapping[str, AssociationSettings]:
        """What gender is made to go with in the training texts, by name."""
        return {}

    @property
    def takes_any_model(self) -> bool:
        """Whether the verb fits other models than classifiers too."""
        return False

    @property
    def trains(self) -> bool:
        """Whether the model is other than it was built."""
        return True

    def cautions(self, examples: int) -> list[tuple[str, str, str]]:
        """Return what is allowed but hardly meant, with so many training examples: setting, problem, remedy."""
        del examples
        return []

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides other cells: dvc.yaml must declare it."""
        read = [prepared_path(self.dataset, split) for split in SPLITS]
        if self.dealt or self.train_on != "train":
            read.append(partition_path(str(self.partition)))
        return read
