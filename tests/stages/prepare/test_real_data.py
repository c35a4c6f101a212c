"""The data sets of params.yaml, whole, from their installed packages; an absent package fails with its remedy."""

from pathlib import Path

import pandas as pd
import pytest

from stages.common.settings import read_parameters
from stages.prepare.preparation import Prepared, prepare
from stages.prepare.settings import Limits, dataset_settings

PARAMETERS = Path(__file__).parents[3] / "params.yaml"
# Rows after cleaning and without limits, over all splits.
ROWS = {
    "atis": 5471,
    "newsgroups": 18787,
    "redditbias": 11464,
    "friends": 43297,
    "friends-replies": 45545,
    "bbq": 23384,
    "news": 3722,
}
READ = {
    "atis": 4978 + 893,
    "newsgroups": 11293 + 7528,
    "redditbias": 28131,
    "friends": 61563,
    "friends-replies": 61563,
    "bbq": 29246,
    "news": 3824,
}


@pytest.fixture(scope="module", params=ROWS)
def prepared(request: pytest.FixtureRequest) -> Prepared:
    settings = dataset_settings(read_parameters(PARAMETERS), request.param)
    return prepare(request.param, settings.model_copy(update={"limit": Limits(), "seed": 0}))


def test_rows(prepared: Prepared) -> None:
    name = prepared.card["dataset"]
    assert sum(prepared.card["rows"].values()) == ROWS[name]
    assert sum(prepared.card["rows_read"].values()) == READ[name]


def test_every_row_read_is_kept_or_accounted_for(prepared: Prepared) -> None:
    dropped = prepared.card["dropped"]
    gone = sum(n for reasons in dropped["missing"].values() for n in reasons.values())
    gone += sum(counts["rows"] for counts in dropped["duplicates"].values())
    gone += sum(n for labels in dropped["labels_unseen_in_train"].values() for n in labels.values())
    gone += sum(dropped["beyond_limit"].values())
    assert sum(prepared.card["rows"].values()) + gone == sum(prepared.card["rows_read"].values())


def test_no_text_is_shared(prepared: Prepared) -> None:
    everything = pd.concat(prepared.frames.values())
    texts = [set(rows["text"].str.casefold()) for rows in prepared.frames.values()]
    assert sum(map(len, texts)) == len(set.union(*texts))
    # Several questions may be asked of a text.
    assert not everything[[name for name in ("text", "question") if name in everything]].duplicated().any()
    assert everything["example_id"].is_unique
    assert not everything.isna().any(axis=None)


def test_train_knows_every_label(prepared: Prepared) -> None:
    for rows in prepared.frames.values():
        assert set(rows["label"]) <= set(prepared.frames["train"]["label"])


def test_own_columns(prepared: Prepared) -> None:
    for rows in prepared.frames.values():
        match prepared.card["dataset"]:
            case "atis":
                assert (rows["tokens"].map(len) == rows["tags"].map(len)).all()
                assert (rows["tokens"].map(" ".join) == rows["text"]).all()
            case "newsgroups":
                assert rows["label"].nunique() == 20
            case "redditbias":
                assert set(rows["group"]) == {"female", "black", "jews", "muslims", "lgbtq"}
                assert set(rows["label"]) == {"neutral", "stereotype"}
            case "bbq":
                assert rows["label"].nunique() == 11
                for row in rows.itertuples():
                    assert row.text.startswith(row.answers[0], row.answer_start)
            case "news":
                assert rows["label"].nunique() == 9
                assert rows["target"].str.len().gt(0).all()
            case "friends":
                assert rows["label"].nunique() == 6
                assert (rows["author"] == rows["label"]).all()
                assert rows["time"].str.fullmatch(r"\d{4}(-\d\d)?").all()
            case "friends-replies":
                assert rows["label"].nunique() == 6
                assert 0 < (rows["author"] == rows["label"]).mean() < 0.05
