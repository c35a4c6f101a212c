import json

import pytest

from stages.common import measurements
from stages.common.measurements import About, Measurement
from stages.common.statistics import proportion

ABOUT = About("letters", "private", "train", "model", "python -m stages.train", "ab" * 32)


def test_a_metrics_file_holds_metric_seed_value_and_interval(tmp_path):
    path = tmp_path / "train.json"
    by_seed = {
        1: {"test/accuracy": proportion(1, 2), "train/parameters": Measurement(7.0)},
        0: {"test/accuracy": proportion(2, 2)},
    }
    measurements.write(path, ABOUT, by_seed)
    content = json.loads(path.read_text())
    assert About(**content["about"]) == ABOUT
    assert list(content["metrics"]) == ["test/accuracy", "train/parameters"]
    assert content["metrics"]["train/parameters"] == {"1": {"value": 7.0, "n": None, "ci_low": None, "ci_high": None}}
    assert list(content["metrics"]["test/accuracy"]) == ["0", "1"]
    assert content["metrics"]["test/accuracy"]["0"]["n"] == 2


@pytest.mark.parametrize("key", ["accuracy", "test/", "/accuracy", ""])
def test_a_key_of_another_form_is_refused(key):
    with pytest.raises(ValueError, match="a metric is named split/metric"):
        measurements.checked({key: Measurement(1.0)})


def test_a_group_may_be_named_with_a_slash():
    assert list(measurements.checked({"test/true_positive_rate/he/she": Measurement(1.0)})) == [
        "test/true_positive_rate/he/she"
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"test/accuracy: (nan|inf) is no measurement"):
        measurements.write(tmp_path / "m.json", ABOUT, {0: {"test/accuracy": Measurement(value)}})
    assert not list(tmp_path.iterdir())
