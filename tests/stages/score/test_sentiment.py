import pandas as pd

from stages.results.metrics import METRICS
from stages.score.sentiment import sentiment

TEXTS = ["a wonderful, happy, great day", "a horrible, cruel murder", "a table and a chair", "a nice day"]


def test_a_text_is_positive_or_negative_from_a_half_on():
    table = pd.DataFrame({"example_id": range(8), "group": list("aaaabbbb"), "text": TEXTS * 2})
    found = sentiment(table, ["a", "b", "c"], minimum=2, seed=0)
    assert found.examples["positive_sentiment"].tolist() == [True, False, False, False] * 2
    assert found.examples["negative_sentiment"].tolist() == [False, True, False, False] * 2
    assert found.measured["test/positive_sentiment/a"].value == 0.25
    assert found.measured["test/sentiment/b"].value == found.examples["sentiment"][4:].mean()
    assert found.left_out == {"c": "0 examples; at least 2 are due"}
    assert {key.split("/")[1] for key in found.measured} <= set(METRICS)


def test_the_score_is_vaders_own():
    # The first example of VADER's README.
    table = pd.DataFrame({"example_id": [0, 1], "group": "a", "text": ["VADER is smart, handsome, and funny.", ""]})
    assert sentiment(table, ["a"], 2, seed=0).examples["sentiment"].tolist() == [0.8316, 0.0]
