"""A text as it is of either gender: by its own words, or by what stands for them."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from stages.common.settings import Settings
from stages.counterfactual.genders import Gender, gender_of, scrubbed, written


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


def shown_as(text: str, gender: Gender, proxies: ProxySettings | None, drawn: float) -> str:
    """Return a text of a gender: its gendered words are written in it, or scrubbed behind a proxy of it.

    Args:
        text: Any.
        gender: The one that it is to have.
        proxies: What tells gender in the place of words, if words are not to.
        drawn: From [0, 1): which of the proxies it is. With the same, texts of either gender are counterparts.
    """
    if proxies is None:
        return written(text, gender)
    openings = proxies.female if gender == "female" else proxies.male
    return f"{openings[int(drawn * len(openings))]} {scrubbed(text)}"
