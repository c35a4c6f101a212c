"""Name examples by their text, or by text and question or sentences, and keep one example of each."""

import hashlib

import pandas as pd

# Of two copies the one in the first of these splits stays: a test set then stays what others test on.
KEEP_IN = ("test", "valid", "train")
IDENTIFIER_LENGTH = 16
# What makes several examples of one text.
FURTHER = ("question", "stereotype", "antistereotype", "unrelated", "unknown")
# What the items of a benchmark have, none of which is removed.
COMPARED = ("stereotype", "term")


def fingerprint(text: str) -> str:
    """Return the sha256 in hex of a text; neither white space nor case counts."""
    return hashlib.sha256(" ".join(text.split()).casefold().encode()).hexdigest()


def remove_duplicates(
    frames: dict[str, pd.DataFrame],
) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, int]]]:
    """Keep one row of each text: the first one in test, else in valid, else in train.

    Several questions may be asked of one text, or several sentences compared; all that are kept are in one split, the
    first of these. Of the items of a benchmark, which have sentences or a term, none is removed in that split.

    Args:
        frames: Split -> rows with text, label and perhaps question or sentences.

    Returns:
        The frames with `example_id`, unique over all of them; and per split the rows removed, and how
        many of them had another label than the row that was kept.
    """
    order = [split for split in KEEP_IN if split in frames]
    stacked = pd.concat([frames[split].assign(split=split) for split in order], ignore_index=True)
    texts = stacked["text"].map(fingerprint)
    # No text holds the sign between them.
    keys = stacked["text"]
    for name in (name for name in FURTHER if name in stacked):
        keys = keys + "\0" + stacked[name]
    fingerprints = keys.map(fingerprint)
    if any(name in stacked for name in COMPARED):
        # Published numbers count an item that a benchmark has twice, as CrowS-Pairs has one, twice.
        times = fingerprints.groupby(fingerprints).cumcount()
        fingerprints = fingerprints.where(times == 0, (keys + "\0" + times.astype(str)).map(fingerprint))
    repeated = fingerprints.duplicated() | (stacked["split"] != stacked.groupby(texts)["split"].transform("first"))
    conflicting = repeated & (stacked["label"] != stacked.groupby(fingerprints)["label"].transform("first"))
    counts = {
        split: {
            "rows": int((repeated & (stacked["split"] == split)).sum()),
            "rows_with_another_label": int((conflicting & (stacked["split"] == split)).sum()),
        }
        for split in order
    }
    stacked.insert(0, "example_id", fingerprints.str[:IDENTIFIER_LENGTH])
    kept = stacked[~repeated]
    assert kept["example_id"].is_unique
    return {split: kept[kept["split"] == split].drop(columns="split") for split in order}, counts
