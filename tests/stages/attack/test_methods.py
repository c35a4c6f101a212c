from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from stages.attack import lira, rmia
from stages.attack.methods import Shadows, read_shadows, scores
from stages.attack.settings import Method
from stages.common.errors import InputError
from stages.models.signals import Signals
from stages.results.metrics import METHODS as NAMED

METHODS = list(get_args(Method))
N, MODELS = 2_000, 32


@pytest.fixture(scope="module")
def world():
    """Logits that are higher by 1 where a model saw the example, of examples that differ in how hard they are."""
    draws = np.random.default_rng(0)
    hard = draws.normal(0, 2, N)
    sees = draws.permuted(np.repeat([[True], [False]], MODELS // 2, axis=0) * np.ones((1, N), dtype=bool), axis=0)
    logits = hard + sees + draws.normal(0, 1, (MODELS, N))
    member = draws.random(N) < 0.5
    observed = hard + member + draws.normal(0, 1, N)
    return observed, member, logits, sees


def test_every_method_has_a_title_in_the_report():
    assert {*METHODS} == {"loss", *NAMED}


def said(logit):
    return Signals(logit > 0, {"label": -np.logaddexp(0, -logit)}, {"label": logit})


@pytest.mark.parametrize("method", METHODS[1:])
def test_shadow_models_tell_more_than_the_loss(world, method):
    observed, member, logits, sees = world
    shadows = Shadows(sees, {"label": -np.logaddexp(0, -logits)}, {"label": logits})
    found = roc_auc_score(member, scores(method, said(observed), shadows, ("label",)))
    assert found > roc_auc_score(member, scores("loss", said(observed), None, ("label",))) + 0.03


@pytest.mark.parametrize("method", METHODS)
def test_an_outsider_is_told_from_nothing(world, method):
    _, member, logits, sees = world
    draws = np.random.default_rng(1)
    # A model that saw none of them.
    observed = logits[0] - sees[0] + draws.normal(0, 0.1, N)
    shadows = Shadows(sees[1:], {"label": -np.logaddexp(0, -logits[1:])}, {"label": logits[1:]})
    found = roc_auc_score(member, scores(method, said(observed), shadows, ("label",)))
    assert abs(found - 0.5) < 4 * np.sqrt(1 / (3 * N))  # four standard errors of an AUC of chance


@pytest.mark.parametrize("own", [True, False])
def test_the_likelihood_ratio_is_that_of_two_gaussians(world, own):
    observed, _, logits, sees = world
    deviation = lira.own_deviation if own else lira.global_deviation
    found = lira.online(observed, logits, sees, deviation)
    inside = [logits[sees[:, row], row] for row in range(N)]
    outside = [logits[~sees[:, row], row] for row in range(N)]
    for row in range(5):
        fits = []
        for side in (inside, outside):
            pooled = np.sqrt(np.sum([np.var(x) * len(x) for x in side]) / np.sum([len(x) - 1 for x in side]))
            fits.append(norm(side[row].mean(), np.std(side[row], ddof=1) if own else pooled))
        assert found[row] == pytest.approx(fits[0].logpdf(observed[row]) - fits[1].logpdf(observed[row]))


def test_the_offline_score_ranks_as_the_distribution_function_does(world):
    observed, _, logits, sees = world
    found = lira.offline(observed, logits, sees, lira.own_deviation)
    row = 7
    out = logits[~sees[:, row], row]
    assert norm.cdf(found[row]) == pytest.approx(norm(out.mean(), out.std(ddof=1)).cdf(observed[row]))


def test_the_relative_likelihood_is_that_of_the_mean_probability(world):
    observed, _, logits, sees = world
    found = rmia.online(said(observed).log_probability["label"], -np.logaddexp(0, -logits), sees)
    p = 1 / (1 + np.exp(-logits[:, 3]))
    mean = (p[sees[:, 3]].mean() + p[~sees[:, 3]].mean()) / 2
    assert np.exp(found[3]) == pytest.approx(1 / (1 + np.exp(-observed[3])) / mean)


@pytest.mark.parametrize("method", ["lira_own_variance", "lira_offline_own_variance", "lira", "rmia", "rmia_offline"])
def test_models_that_all_say_the_same_give_finite_scores(method):
    logits = np.ones((8, 5))
    sees = np.arange(40).reshape(8, 5) % 2 == 0
    shadows = Shadows(sees, {"label": -np.logaddexp(0, -logits)}, {"label": logits})
    assert np.isfinite(scores(method, said(np.linspace(-30, 30, 5)), shadows, ("label",))).all()


def test_the_signals_of_label_and_tags_add_up(world):
    observed, _, logits, sees = world
    two = Signals(observed > 0, {"label": observed, "tags": 2 * observed}, {"label": observed, "tags": 2 * observed})
    shadows = Shadows(sees, {"label": logits, "tags": 2 * logits}, {"label": logits, "tags": 2 * logits})
    for method in ("lira", "rmia"):
        both = scores(method, two, shadows, ("label", "tags"))
        tripled = Shadows(sees, {"label": 3 * logits}, {"label": 3 * logits})
        three = Signals(observed > 0, {"label": 3 * observed}, {"label": 3 * observed})
        np.testing.assert_allclose(both, scores(method, three, tripled, ("label",)))


def table(models=8):
    rows = [
        (k, f"e{row}", (k + row) % 2 == 0, -1.0 - row, float(10 * k + row)) for k in range(models) for row in range(4)
    ]
    return pd.DataFrame(rows, columns=["shadow", "example_id", "member", "label_log_probability", "label_logit"])


def test_shadows_are_read_in_the_order_of_the_examples(tmp_path):
    table().sample(frac=1, random_state=0).to_parquet(tmp_path / "signals.parquet")
    names = np.array(["e2", "e0", "e3", "e1"], dtype=object)
    found = read_shadows(tmp_path / "signals.parquet", names)
    assert found.logit["label"][3].tolist() == [32.0, 30.0, 33.0, 31.0]
    assert found.sees[3].tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (table().assign(example_id="e9"), "is of other examples"),
        (table().iloc[1:], "is of other examples"),
        (table().assign(member=True), "fewer than two of the models; train more shadows"),
    ],
)
def test_shadows_of_other_data_or_too_few_are_refused(tmp_path, broken, message):
    broken.to_parquet(tmp_path / "signals.parquet")
    with pytest.raises(InputError, match=message):
        read_shadows(tmp_path / "signals.parquet", np.array(["e0", "e1", "e2", "e3"], dtype=object))
