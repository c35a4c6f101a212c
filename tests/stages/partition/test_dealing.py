import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from stages.common.errors import InputError
from stages.partition.dealing import client_table, deal
from stages.partition.settings import (
    FeatureShift,
    Iid,
    LabelDirichlet,
    LabelShift,
    Membership,
    Natural,
    PowerLaw,
    QuantityShift,
    Shards,
)

KEY = "partitions.some"
HALVES = Membership(member=0.4, nonmember=0.4)
SCHEMES = [
    Iid(scheme="iid", dataset="d", seeds=[0], clients=3),
    LabelShift(scheme="label_shift", dataset="d", seeds=[0], clients=3, alpha=0.5),
    QuantityShift(scheme="quantity_shift", dataset="d", seeds=[0], clients=3, beta=5.0),
    Natural(scheme="natural", dataset="d", seeds=[0], column="author"),
    LabelDirichlet(scheme="label_dirichlet", dataset="d", seeds=[0], clients=3, alpha=5.0),
    Shards(scheme="shards", dataset="d", seeds=[0], clients=3, shards=2),
    PowerLaw(scheme="power_law", dataset="d", seeds=[0], clients=3, exponent=1.2),
]


def with_membership(scheme, membership=HALVES):
    return scheme.model_copy(update={"membership": membership})


def pool(count):
    """Labels and authors of `count` examples."""
    draws = np.random.default_rng(count)
    return draws.integers(0, 4, count), draws.choice(np.array(["ann", "bob", "cy"], dtype=object), count)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SCHEMES), st.booleans(), st.integers(60, 200), st.integers(0, 2**32 - 1))
def test_every_example_has_one_row_and_only_the_held_have_a_client(scheme, dealt_membership, count, seed):
    scheme = with_membership(scheme) if dealt_membership else scheme
    labels, authors = pool(count)
    ids = pd.Series([f"train-{row}" for row in range(count)])
    dealing = deal(scheme, KEY, labels, authors, seed)
    periods = np.arange(count) % 2
    table = client_table(ids, dealing, periods, seed)

    assert list(table.columns) == ["seed", "example_id", "client_id", "split", "period"]
    assert table["example_id"].tolist() == ids.tolist()
    assert (table["seed"] == seed).all()
    assert (table["period"] == periods).all()
    held = table["split"].isin(["train", "member"])
    assert (table["client_id"].notna() == held).all()
    assert table["client_id"].nunique() == 3
    sizes = table["split"].value_counts().to_dict()
    tenths = count * 4 // 10
    expected = {"member": tenths, "nonmember": tenths, "reserve": count - 2 * tenths}
    assert sizes == (expected if dealt_membership else {"train": count})
    pd.testing.assert_frame_equal(table, client_table(ids, deal(scheme, KEY, labels, authors, seed), periods, seed))


def test_the_whole_pool_may_be_dealt_and_fractions_are_read_as_written():
    scheme = with_membership(SCHEMES[0], Membership(member=0.29, nonmember=0.71))
    split = deal(scheme, KEY, *pool(100), seed=0).split
    assert dict(zip(*np.unique(split, return_counts=True), strict=True)) == {"member": 29, "nonmember": 71}


def test_the_halves_depend_on_the_seed_and_not_on_the_clients():
    labels, authors = pool(200)
    splits = [deal(with_membership(scheme), KEY, labels, authors, seed=5).split for scheme in SCHEMES]
    more = SCHEMES[1].model_copy(update={"clients": 17, "alpha": 9.0})
    splits.append(deal(with_membership(more), KEY, labels, authors, seed=5).split)
    assert all((split == splits[0]).all() for split in splits)
    assert (deal(with_membership(more), KEY, labels, authors, seed=6).split != splits[0]).any()


def test_the_place_in_the_pool_tells_neither_half_nor_client():
    scheme = with_membership(SCHEMES[0].model_copy(update={"clients": 4}), Membership(member=0.5, nonmember=0.5))
    labels, authors = pool(400)
    place = np.arange(400) // 100
    by_client, by_half = np.zeros((4, 4)), np.zeros((2, 4))
    for seed in range(60):
        dealing = deal(scheme, KEY, labels, authors, seed)
        np.add.at(by_client, (dealing.client, place[dealing.held]), 1)
        np.add.at(by_half, (dealing.held.astype(int), place), 1)
    assert chi2_contingency(by_client).pvalue > 1e-3
    assert chi2_contingency(by_half).pvalue > 1e-3


def test_halves_and_clients_come_from_streams_of_their_own():
    # With as many clients as examples, iid shows its permutation: from a shared stream, its lower half would be
    # exactly the members.
    labels, authors = pool(400)
    one_each = SCHEMES[0].model_copy(update={"clients": 400})
    lower = deal(one_each, KEY, labels, authors, seed=0).client < 200
    half = with_membership(SCHEMES[0], Membership(member=0.5, nonmember=0.5))
    assert 150 < np.sum(lower == deal(half, KEY, labels, authors, seed=0).held) < 250


def test_natural_clients_are_the_values_and_numbered_ones_sort():
    labels, authors = pool(60)
    assert (deal(SCHEMES[3], KEY, labels, authors, seed=0).names == authors).all()
    names = deal(SCHEMES[0].model_copy(update={"clients": 12}), KEY, labels, authors, seed=0).names
    assert sorted(set(names)) == [f"{number:02d}" for number in range(12)]


def test_clients_must_fit_among_the_members():
    scheme = with_membership(SCHEMES[0].model_copy(update={"clients": 50}))
    with pytest.raises(InputError, match=r"partitions.some.clients: 50 clients .* 40 examples"):
        deal(scheme, KEY, *pool(100), seed=0)


def test_a_fraction_of_no_example_is_refused():
    scheme = with_membership(SCHEMES[0], Membership(member=0.5, nonmember=0.001))
    with pytest.raises(InputError, match=r"membership.nonmember: 0.001 of 100 examples is not one example"):
        deal(scheme, KEY, *pool(100), seed=0)


def test_features_are_clustered_among_what_is_held():
    # Two groups of texts, as far apart as can be; with a small alpha clients are of one group, whatever the labels.
    vectors = np.repeat([[0.0, 1.0], [1.0, 0.0]], 100, axis=0) + np.random.default_rng(0).normal(0, 0.01, (200, 2))
    scheme = FeatureShift(
        scheme="feature_shift",
        dataset="d",
        seeds=[0],
        clients=8,
        alpha=1e-3,
        clusters=2,
        encoder={"kind": "static", "source": "package", "package": "p", "weights": "w", "tokenizer": "t"},
        max_length=8,
    )
    labels, _ = pool(200)
    dealing = deal(with_membership(scheme), KEY, labels, vectors, seed=0)
    group = (np.arange(200) >= 100)[dealing.held]
    shares = [group[dealing.client == client].mean() for client in range(8)]
    # The last clients get what is left.
    assert sum(share in (0, 1) for share in shares) >= 6
