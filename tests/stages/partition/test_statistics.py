import numpy as np
import pytest

from stages.common.measurements import Measurement
from stages.partition import statistics


def test_label_counts_count_every_pair():
    client, label = np.array([0, 1, 1, 2, 1]), np.array([0, 2, 2, 1, 0])
    assert statistics.label_counts(client, label, 3).tolist() == [[1, 0, 0], [1, 0, 2], [0, 1, 0]]


@pytest.mark.parametrize(
    ("sizes", "effective"),
    [([5, 5, 5, 5], 4.0), ([6, 3, 1], 100 / 46), ([7], 1.0)],
)
def test_effective_clients(sizes, effective):
    assert statistics.effective_clients(np.array(sizes)[:, None]) == pytest.approx(effective)


@pytest.mark.parametrize(
    ("counts", "bits"),
    [
        ([[4, 4], [1, 1]], 0.0),
        # One label each: H(3/4, 1/4) - H(1/2, 1/2) / 2 = 0.811278 - 0.5.
        ([[5, 0], [0, 5]], 0.311278),
        # Whole (3/4, 1/4). The client of 9: H(7/8, 1/8) - H(3/4, 1/4) / 2 = 0.543564 - 0.405639 = 0.137925;
        # the client of 3: H(3/8, 5/8) - 0.405639 = 0.954434 - 0.405639 = 0.548795; weighted .75 and .25.
        ([[9, 0], [0, 3]], 0.75 * 0.137925 + 0.25 * 0.548795),
    ],
)
def test_label_divergence(counts, bits):
    assert statistics.label_divergence(np.array(counts)) == pytest.approx(bits, abs=1e-6)


def test_measure_names_clients_under_train_and_counts_each_split():
    measured = statistics.measure(np.array([[3, 0], [1, 2], [0, 2]]), np.array(["member"] * 8 + ["reserve"] * 2))
    assert measured["train/clients"] == Measurement(3.0, 8)
    assert measured["train/smallest_client"] == Measurement(2.0, 8)
    assert measured["train/largest_client"] == Measurement(3.0, 8)
    assert measured["train/effective_clients"].value == pytest.approx(64 / 22)
    assert measured["member/examples"] == Measurement(8.0, 8)
    assert measured["reserve/examples"] == Measurement(2.0, 2)


def test_holdings_name_clients_by_rank_and_keep_the_largest():
    table = statistics.holdings(np.array([[1, 0], [2, 3], [0, 2]]), np.array(["no", "yes"], dtype=object), seed=4)
    assert table.to_dict("list") == {
        "seed": [4, 4, 4, 4],
        "client": [0, 0, 1, 2],
        "label": ["no", "yes", "yes", "no"],
        "count": [2, 3, 2, 1],
    }
    many = statistics.holdings(np.arange(1, 151)[:, None], np.array(["only"], dtype=object), seed=0)
    assert len(many) == statistics.SHOWN_CLIENTS == 100
    assert many["count"].tolist() == list(range(150, 50, -1))
