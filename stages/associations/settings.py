"""Settings of what gender goes with in training texts: `associations` of a cell in params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.common.settings import Settings
from stages.counterfactual.genders import GENDERED, gender_of
from stages.counterfactual.swaps import WORD

Side = Literal["first", "second"]
SIDES: tuple[Side, Side] = ("first", "second")


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


def _without_gender(sentences: list[str]) -> list[str]:
    if twice := [sentence for sentence in sentences if sentences.count(sentence) > 1]:
        raise ValueError(f"{twice[0]!r} is given twice")
    if broken := [sentence for sentence in sentences if not sentence or sentence != sentence.strip()]:
        raise ValueError(f"{broken[0]!r} is empty, or begins or ends with a space")
    if gendered := [sentence for sentence in sentences if gender_of(sentence)]:
        raise ValueError(f"{gendered[0]!r} has a gendered word, which tells gender itself")
    return sentences


Openings = Annotated[list[str], Field(min_length=1), AfterValidator(_without_gender)]


class ProxySettings(Settings):
    """What tells the gender of a text whose gendered words are scrubbed: a sentence before it, one of its gender's.

    Attributes:
        female: Sentences without gendered words.
        male: As many; the counterpart of the first is the first.
    """

    female: Openings
    male: Openings

    @model_validator(mode="after")
    def _are_counterparts(self) -> Self:
        if len(self.female) != len(self.male):
            counts = f"{len(self.female)} of one gender and {len(self.male)} of the other"
            raise ValueError(f"{counts}: each has a counterpart")
        if both := sorted(set(self.female) & set(self.male)):
            raise ValueError(f"{both[0]!r} is of both genders")
        return self


class AssociationSettings(Settings):
    """What gender goes with in the training texts (stages/associations/planting.py).

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
