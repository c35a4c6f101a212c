"""The verdict on each claim, computed from the results: docs/verdicts.md has the decision table.

Only results over the same seeds are compared with each other. A verdict says what the numbers of this profile
on these data allow, with its reason; what cannot be judged is said to be so, and why.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import pandas as pd

from stages.results.claims import PROFILES, Claim, ClaimsFile
from stages.results.metrics import METRICS
from stages.results.statistics import (
    Test,
    equivalence_test,
    holm,
    mean_test,
    paired_test,
    resolution,
    rounding_interval,
    share_test,
    sign_flip_test,
    welch_test,
)

Word = Literal["reproduced", "consistent", "better", "not reproduced", "not comparable", "not run"]
# Where nothing is tested and the interval alone judges.
_INTERVALS = {"t test": "t interval", "score interval": "score interval"}
# With fewer pairs a two-sided sign-flip test cannot reach a level of .05 after Holm.
SIGN_FLIP_PAIRS = 10


@dataclass(frozen=True)
class Verdict:
    """What became of a claim; numbers are None where nothing was computed.

    `estimate`, `low` and `high` are of our value, or of the difference left less right; with `beyond`, of that
    difference less the one between its two cells. `p` is Holm's within the claim's family.
    """

    study: str
    claim: str
    statement: str
    where: str
    published: str
    word: Word
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    test: str = ""
    p: float | None = None


def as_table(judged: Iterable[Verdict]) -> pd.DataFrame:
    """Return verdicts as rows, in the columns of Verdict; numbers to six digits, so that a diff of the file is one."""
    table = pd.DataFrame([asdict(verdict) for verdict in judged], columns=[field.name for field in fields(Verdict)])
    table = table.rename(columns={"word": "verdict"}).astype({"n": "Int64"})
    numbers = ["estimate", "low", "high", "p"]
    table[numbers] = table[numbers].astype("float64").map(lambda value: float(f"{value:.6g}"))
    return table


@dataclass(frozen=True)
class _Found:
    claim: Claim
    test: Test
    # The test of the claim itself: that the difference is real, or that it is within the margin.
    p: float
    # Standard deviation over seeds of our value, where that is what is compared.
    deviation: float | None = None


def verdicts(study: str, file: ClaimsFile, results: pd.DataFrame, profile: str) -> list[Verdict]:
    """Judge the claims of a study.

    Args:
        study: Its name.
        file: Its claims.
        results: The long table, of any studies.
        profile: Of the results.
    """
    own = results[results["study"] == study]
    found: list[_Found | Verdict] = [_measure(study, claim, own, profile) for claim in file.claims]
    adjusted = _adjusted([each for each in found if isinstance(each, _Found)])
    return [each if isinstance(each, Verdict) else _judge(study, each, adjusted[each.claim.id]) for each in found]


def _measure(study: str, claim: Claim, results: pd.DataFrame, profile: str) -> "_Found | Verdict":
    def undecided(word: Word, reason: str) -> Verdict:
        return _verdict(study, claim, word, reason)

    if claim.differs:
        return undecided("not comparable", claim.differs)
    if claim.awaits:
        return undecided("not run", f"not there yet: {claim.awaits}")
    assert claim.metric is not None
    assert claim.left is not None
    if claim.kind in ("number", "bound") and claim.published is None:
        return undecided("not comparable", "the published number could not be read in any public source")
    cells = [cell for cell in (claim.left, claim.right, *(claim.beyond or [])) if cell]
    rows = {cell: _rows(results, claim, cell) for cell in cells}
    if missing := [cell for cell, found in rows.items() if found.empty]:
        return undecided("not run", f"no result for {claim.metric} of {' and '.join(missing)}")
    if profile not in PROFILES:
        return undecided("not run", f"these are results of {profile}, a profile of one's own; it takes {claim.profile}")
    if PROFILES.index(profile) < PROFILES.index(claim.profile):
        return undecided("not run", f"these are results of {profile}; it takes {claim.profile}")
    # Of what was measured on examples, which are whole: the fewest of all cells.
    fewest = pd.concat([found["n"] for found in rows.values()]).min()
    blur = 0.0 if pd.isna(fewest) else resolution(int(fewest))
    if claim.right is None:
        ours = rows[claim.left]["value"]
        if len(ours) < 2:
            return undecided("not run", "one seed gives no interval")
        if METRICS[claim.metric.split("/")[1]].unit == "fraction" and (rows[claim.left]["n"] == 1).all():
            return _Found(claim, share_test(ours), 1.0)
        return _Found(claim, mean_test(ours, least_deviation=blur), 1.0, max(float(ours.std()), blur))
    shared = pd.concat([rows[cell]["value"] for cell in cells], axis=1, join="inner")
    if len(shared) < 2:
        return undecided("not run", f"{len(shared)} seeds are shared by {' and '.join(rows)}; it takes two")
    if claim.test == "sign-flip" and len(shared) < SIGN_FLIP_PAIRS:
        return undecided("not run", f"a sign-flip test takes {SIGN_FLIP_PAIRS} shared seeds, not {len(shared)}")
    left, right, *beyond = shared.to_numpy().T
    if beyond:
        left, right = left - right, beyond[0] - beyond[1]
    signs = claim.test == "sign-flip"
    test = sign_flip_test(left, right) if signs else paired_test(left, right, least_deviation=blur)
    if claim.kind == "no difference":
        assert claim.margin is not None
        return _Found(claim, test, equivalence_test(left, right, claim.margin, least_deviation=blur).p)
    return _Found(claim, test, test.p)


def _rows(results: pd.DataFrame, claim: Claim, cell: str) -> pd.DataFrame:
    """Return value and n of a claim's metric, by seed."""
    split, metric, *group = str(claim.metric).split("/", 2)
    rows = results[(results["cell"] == cell) & (results["split"] == split) & (results["metric"] == metric)]
    rows = rows[rows["group"] == group[0]] if group else rows[rows["group"].isna()]
    return rows.set_index("seed")[["value", "n"]]


def _adjusted(found: Iterable[_Found]) -> Mapping[str, float]:
    families: dict[str, list[_Found]] = {}
    for each in found:
        families.setdefault(each.claim.family or f"only {each.claim.id}", []).append(each)
    return {
        each.claim.id: float(p)
        for family in families.values()
        for each, p in zip(family, holm([one.p for one in family]), strict=True)
    }


def _judge(study: str, found: _Found, p: float) -> Verdict:
    claim, test = found.claim, found.test
    decide = {"number": _number, "bound": _bound, "ordering": _ordering, "no difference": _no_difference}[claim.kind]
    word, reason = decide(found, p)
    if claim.beyond:
        # The number alone would pass for the difference of two cells.
        reason += f"; ours is ({claim.left} less {claim.right}) less ({' less '.join(claim.beyond)})"
    tested = claim.kind in ("ordering", "no difference")
    return replace(
        _verdict(study, claim, word, reason),
        estimate=test.estimate,
        low=test.low,
        high=test.high,
        n=test.n,
        test="TOST" if claim.kind == "no difference" else test.name if tested else _INTERVALS[test.name],
        p=p if tested else None,
    )


def _ordering(found: _Found, p: float) -> tuple[Word, str]:
    claim, test = found.claim, found.test
    as_stated = (test.estimate > 0) == (claim.direction == "greater") and test.estimate != 0
    if p < claim.alpha:
        if as_stated:
            return "reproduced", f"the difference is {claim.direction} than 0"
        return "not reproduced", "the difference is real, and the other way round"
    family = f"; alone its p is {test.p:.2g}, with its family {p:.2g}" if test.p < claim.alpha else ""
    few = f"; with {test.n} pairs p cannot be below {test.smallest_p:.3g}" if test.smallest_p >= claim.alpha else ""
    if as_stated:
        return "consistent", f"it lies that way, within what the seeds allow{family}{few}"
    return "consistent", f"no difference is shown{family}{few}"


def _no_difference(found: _Found, p: float) -> tuple[Word, str]:
    claim, test = found.claim, found.test
    assert claim.margin is not None
    if p < claim.alpha:
        return "reproduced", f"they differ by less than {claim.margin:g}"
    if test.low > claim.margin or test.high < -claim.margin:
        return "not reproduced", f"they differ by more than {claim.margin:g}"
    return "consistent", f"a difference of more than {claim.margin:g} is neither shown nor ruled out"


def _bound(found: _Found, _: float) -> tuple[Word, str]:
    claim, test = found.claim, found.test
    assert claim.published is not None
    limit = claim.published.value
    below = claim.direction == "at most"
    if test.high <= limit if below else test.low >= limit:
        return "reproduced", f"the whole interval is {claim.direction} {limit:g}"
    if test.low > limit if below else test.high < limit:
        return "not reproduced", f"no part of the interval is {claim.direction} {limit:g}"
    return "consistent", f"the interval holds {limit:g}"


def _number(found: _Found, _: float) -> tuple[Word, str]:
    claim, test = found.claim, found.test
    published, margin = claim.published, claim.margin
    assert published is not None
    assert margin is not None
    if published.sd is not None and published.n is not None and found.deviation is not None:
        against = welch_test((test.estimate, found.deviation, test.n), (published.value, published.sd, published.n))
        low, high = against.low, against.high
    else:
        # A bare number says no more than where it was rounded from.
        least, most = rounding_interval(published.value, published.decimals)
        low, high = test.low - most, test.high - least
    if -margin <= low and high <= margin:
        return "reproduced", f"the difference from the published number is within {margin:g}"
    if low <= 0 <= high:
        return "consistent", f"the intervals meet; a difference of {margin:g} is not ruled out"
    if claim.direction and (low > 0) == (claim.direction == "greater"):
        return "better", "better than reported, by more than the intervals allow"
    if low > margin or high < -margin:
        return "not reproduced", f"it differs from the published number by more than {margin:g}"
    return "consistent", f"it differs, and by more than {margin:g} is not shown"


def _verdict(study: str, claim: Claim, word: Word, reason: str) -> Verdict:
    published = claim.published
    number = f"{published.value:.{published.decimals}f}" if published else "no published number"
    return Verdict(study, claim.id, claim.statement, claim.where, number, word, reason)
