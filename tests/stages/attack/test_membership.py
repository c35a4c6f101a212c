import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.attack.membership import loss_scores, measure, roc_points
from stages.models import files
from stages.models.examples import examples, vocabulary


@pytest.mark.parametrize("tags", [False, True])
def test_the_score_is_the_log_probability_of_the_true_label(model_settings, texts, tags):
    table = texts(40, tags=tags)
    known = vocabulary(table)
    model, pool = files.build(model_settings(), known.labels, known.tags, 0), examples(table, model_settings(), known)
    found = loss_scores(model, pool)
    with torch.no_grad():
        losses = cross_entropy(model(*model.inputs(pool.text)).labels, pool.labels, reduction="none")
    assert found["example_id"].tolist() == table["example_id"].tolist()
    np.testing.assert_allclose(found["score"], -losses.numpy(), rtol=1e-5)


def scored(members, nonmembers):
    member = np.repeat([True, False], [len(members), len(nonmembers)])
    order = np.random.default_rng(0).permutation(len(member))
    return pd.DataFrame({"member": member, "score": np.concatenate([members, nonmembers])}).iloc[order]


def test_a_higher_score_counts_as_a_guess_of_member():
    measured = measure(scored(np.arange(200.0) + 1000, np.arange(200.0)))
    assert measured["pool/auc"].value == 1
    assert measured["pool/true_positive_rate_at_1_percent"].value == 1


def test_a_rate_at_0_1_percent_needs_ten_thousand_nonmembers():
    key = "pool/true_positive_rate_at_0_1_percent"
    assert key not in measure(scored(np.arange(5.0), np.arange(9_999.0)))
    # Ten of ten thousand may be false: the eleventh highest non-member is the threshold.
    assert measure(scored(np.array([9_989.0, 9_989.5]), np.arange(10_000.0)))[key].value == 0.5


def test_the_curve_is_that_of_the_same_scores():
    points = roc_points(scored(np.array([2.0, 3.0]), np.array([1.0, 2.0])))
    assert points.to_dict("list") == {"false_positive_rate": [0.0, 0.5, 1.0], "true_positive_rate": [0.5, 1.0, 1.0]}
