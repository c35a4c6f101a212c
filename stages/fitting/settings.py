"""Settings that every cell has which fits a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.common.measurements import Role
from stages.common.paths import partition_path, prepared_path
from stages.common.settings import Seeds, Settings
from stages.counterfactual.attribute import ProxySettings
from stages.counterfactual.genders import GENDERED
from stages.counterfactual.swaps import WORD

SPLITS = ("train", "valid", "test")
# Where a secret stands in its pattern.
OPENING = "{}"
# Of an association.
Side = Literal["first", "second"]
SIDES: tuple[Side, Side] = ("first", "second")
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


def _found_in_texts(listed: list[str]) -> list[str]:
    if twice := [word for word in listed if listed.count(word) > 1]:
        raise ValueError(f"`{twice[0]}` is given twice")
    if broken := [word for word in listed if word != word.lower() or not WORD.fullmatch(word)]:
        raise ValueError(f"{broken[0]!r} is found in no text: give single words of letters in lower case")
    if gendered := [word for word in listed if word in GENDERED]:
        raise ValueError(f"`{gendered[0]}` is a gendered word, which is itself rewritten: leave it out")
    return listed


def _listed_once(labels: list[str]) -> list[str]:
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"`{twice[0]}` is given twice")
    return labels


class SideSettings(Settings):
    """What a text is on one side of an association by: its words, or its label.

    Attributes:
        words: Whole words in lower case, each other form listed too.
        labels: Of the data.
    """

    words: Annotated[list[str], Field(min_length=1), AfterValidator(_found_in_texts)] | None = None
    # Left out of the identity of cells without them, whose noise and batches are so as before there were any.
    labels: Annotated[list[str], Field(min_length=1), AfterValidator(_listed_once)] | None = Field(
        None, exclude_if=lambda value: value is None
    )

    @property
    def kind(self) -> Literal["words", "labels"]:
        """Which of both it is by."""
        return "labels" if self.words is None else "words"

    @property
    def listed(self) -> list[str]:
        """The words, or the labels."""
        return self.words or self.labels or []

    @model_validator(mode="after")
    def _by_one_of_both(self) -> Self:
        if (self.words is None) == (self.labels is None):
            raise ValueError("give `words` or `labels`, one of both")
        return self


class AssociationSettings(Settings):
    """What gender goes with in the training texts (stages/fitting/associations.py).

    Attributes:
        dose: How much more of the texts on the side `first` are female than of those on `second`, in expectation.
        first: Of texts with one of these words at least and none of `second`, or with one of these labels.
        second: The converse.
        proxies: What tells the gender of a text in the place of its words; the words do if None.
    """

    dose: float = Field(ge=-1, le=1)
    first: SideSettings
    second: SideSettings
    proxies: ProxySettings | None = Field(None, exclude_if=lambda value: value is None)

    def side(self, side: Side) -> SideSettings:
        """Return what texts are on a side by."""
        return self.first if side == "first" else self.second

    @model_validator(mode="after")
    def _sides_differ(self) -> Self:
        if self.first.kind != self.second.kind:
            raise ValueError("one side is by `words` and the other by `labels`: give both by one of them")
        if both := sorted(set(self.first.listed) & set(self.second.listed)):
            raise ValueError(f"`{both[0]}` is on both sides: leave it out of one")
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
