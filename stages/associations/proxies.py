"""A text as it is of either gender: by its own words, or by what stands for them."""

from stages.associations.settings import ProxySettings
from stages.counterfactual.genders import Gender, scrubbed, written


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
