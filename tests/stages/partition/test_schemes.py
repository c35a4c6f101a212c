import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.common.errors import InputError
from stages.partition import schemes
from stages.partition.statistics import label_counts
from tests.peers.recorded import FLOWER

KEY = "partitions.some"


def generator(seed=0):
    return np.random.default_rng(seed)


def balanced(count, labels):
    return np.arange(count) % labels


def entropy_per_client(labels, clients, alpha, seed=0):
    counts = label_counts(schemes.label_shift(labels, clients, alpha, generator(seed), KEY), labels, labels.max() + 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return -np.sum(shares * np.log2(np.where(shares > 0, shares, 1)), axis=1)


@st.composite
def pools(draw):
    count = draw(st.integers(1, 200))
    labels = draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))
    return np.array(labels), draw(st.integers(1, count))


@given(pools(), st.integers(0, 2**32 - 1))
def test_iid_deals_sizes_equal_within_one(pool, seed):
    labels, clients = pool
    client = schemes.iid(len(labels), clients, generator(seed), KEY)
    sizes = np.bincount(client, minlength=clients)
    assert len(client) == len(labels)
    assert len(sizes) == clients
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


@given(pools(), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_label_shift_deals_equal_sizes_up_to_the_last_client(pool, alpha, seed):
    labels, clients = pool
    client = schemes.label_shift(labels, clients, alpha, generator(seed), KEY)
    sizes = np.bincount(client, minlength=clients)
    assert len(client) == len(labels)
    assert len(sizes) == clients
    assert (sizes[:-1] == len(labels) // clients).all()
    assert sizes[-1] == len(labels) // clients + len(labels) % clients


@given(pools(), st.floats(5.0, 1e6), st.integers(0, 2**32 - 1))
def test_quantity_shift_leaves_no_client_empty(pool, beta, seed):
    labels, _ = pool
    clients = max(1, len(labels) // 20)
    sizes = np.bincount(schemes.quantity_shift(len(labels), clients, beta, 1, generator(seed), KEY), minlength=clients)
    assert sizes.sum() == len(labels)
    assert len(sizes) == clients
    assert sizes.min() >= 1


@given(st.lists(st.sampled_from(["ann", "bob", "zoé", "10", "9"]), min_size=1))
def test_natural_deals_one_client_per_value_in_sorted_order(values):
    client = schemes.natural(np.array(values, dtype=object))
    assert [sorted(set(values))[index] for index in client] == values


@pytest.mark.parametrize(
    "deal",
    [
        lambda g: schemes.iid(300, 7, g, KEY),
        lambda g: schemes.label_shift(balanced(300, 5), 7, 0.3, g, KEY),
        lambda g: schemes.label_dirichlet(balanced(300, 5), 7, 0.3, 1, g, KEY),
        lambda g: schemes.shards(balanced(300, 5), 7, 2, g, KEY),
        lambda g: schemes.quantity_shift(300, 7, 2.0, 1, g, KEY),
        lambda g: schemes.power_law(300, 7, 1.2, 1, g, KEY),
        lambda g: schemes.clusters(np.random.default_rng(0).normal(size=(300, 2)), 7, g, KEY),
    ],
    ids=["iid", "label_shift", "label_dirichlet", "shards", "quantity_shift", "power_law", "clusters"],
)
def test_the_same_seed_repeats_and_another_differs(deal):
    assert (deal(generator(3)) == deal(generator(3))).all()
    assert (deal(generator(3)) != deal(generator(4))).any()


def test_label_shift_with_a_large_alpha_copies_the_prior():
    labels = np.repeat([0, 1, 2, 3], [2000, 1000, 600, 400])
    counts = label_counts(schemes.label_shift(labels, 20, 1e6, generator(), KEY), labels, 4)
    assert counts / 200 == pytest.approx(np.tile([0.5, 0.25, 0.15, 0.1], (20, 1)), abs=0.02)


def test_label_shift_with_a_small_alpha_gives_clients_of_nearly_one_label():
    labels = balanced(5000, 10)
    counts = label_counts(schemes.label_shift(labels, 50, 1e-3, generator(), KEY), labels, 10)
    # The last clients get what is left, whatever they wanted.
    largest_share = np.sort((counts / counts.sum(axis=1, keepdims=True)).max(axis=1))
    assert np.median(largest_share) == 1
    assert largest_share.mean() > 0.8


def test_mean_client_entropy_rises_with_alpha():
    labels = balanced(4000, 10)
    means = [
        np.mean([entropy_per_client(labels, 40, alpha, seed).mean() for seed in range(3)])
        for alpha in (0.01, 0.1, 1.0, 10.0, 1000.0)
    ]
    assert (np.diff(means) > 0.05).all()
    assert means[-1] == pytest.approx(np.log2(10), abs=0.1)


def test_label_shift_draws_dirichlet_shares_in_the_mean_and_the_spread():
    # No label runs out while the first client is served, so its share is the draw itself.
    # Dirichlet(alpha * (.3, .7)) has mean .3 and variance .3 * .7 / (alpha + 1).
    labels = np.repeat([0, 1], [600, 1400])
    shares = [
        np.mean(labels[schemes.label_shift(labels, 10, 4.0, generator(seed), KEY) == 0] == 0) for seed in range(1500)
    ]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.02)
    assert np.var(shares) == pytest.approx(0.3 * 0.7 / 5, rel=0.12)


def test_label_shift_needs_no_rows_of_each_label_and_survives_the_tiniest_alpha():
    labels = np.array([7, 7, 7, 2])
    for alpha in (5e-324, 1e308):
        assert sorted(schemes.label_shift(labels, 4, alpha, generator(), KEY)) == [0, 1, 2, 3]


def test_quantity_shift_grows_more_even_with_beta():
    spread = [
        np.bincount(schemes.quantity_shift(5000, 20, beta, 1, generator(1), KEY)).std() for beta in (0.5, 5.0, 500.0)
    ]
    assert spread[0] > spread[1] > spread[2]


def test_quantity_shift_gives_up_at_the_cap():
    with pytest.raises(InputError, match=r"partitions.some.beta: 0.1 left one of 1000 clients .* 5000 .*raise beta"):
        schemes.quantity_shift(5000, 1000, 0.1, 1, generator(), KEY)


def test_a_floor_holds_or_is_given_up_at_the_cap():
    assert np.bincount(schemes.quantity_shift(5000, 20, 5.0, 50, generator(), KEY)).min() >= 50
    assert np.bincount(schemes.label_dirichlet(balanced(5000, 10), 20, 0.5, 50, generator(), KEY)).min() >= 50
    with pytest.raises(InputError, match=r"partitions.some.alpha: 0.01 left one of 100 clients without 5 of 1000 .*"):
        schemes.label_dirichlet(balanced(1000, 10), 100, 0.01, 5, generator(), KEY)
    with pytest.raises(InputError, match=r"20 clients with 300 examples each are more .*; at most 16, so that"):
        schemes.quantity_shift(5000, 20, 5.0, 300, generator(), KEY)


@given(st.integers(1, 400), st.integers(1, 60), st.floats(1e-3, 50.0), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_power_law_deals_shares_of_the_rank_and_the_floor_to_those_below(count, clients, exponent, least, seed):
    if clients * least > count:
        return
    client = schemes.power_law(count, clients, exponent, least, generator(seed), KEY)
    sizes = np.sort(np.bincount(client, minlength=clients))[::-1]
    assert sizes.sum() == count
    assert len(sizes) == clients
    assert sizes.min() >= least
    # Those that the floor raises are as many as there must be; the others are within one of their share.
    for head in range(clients, 0, -1):
        weights = np.arange(1, head + 1) ** -exponent
        shares = (count - least * (clients - head)) * weights / weights.sum()
        if shares[-1] >= least - 1e-9:
            break
    assert np.abs(sizes[:head] - shares).max() < 1 + 1e-9
    assert (sizes[head:] == least).all()


def test_power_law_without_a_floor_is_zipfs_rounded_by_largest_remainders():
    # 1000 / (1 + 1/2 + 1/3 + 1/4) = 480; 1003 are 481.44, 240.72, 160.48 and 120.36.
    for count, expected in ((1000, [480, 240, 160, 120]), (1001, [481, 240, 160, 120]), (1003, [481, 241, 161, 120])):
        sizes = np.bincount(schemes.power_law(count, 4, 1.0, 1, generator(), KEY))
        assert sorted(sizes, reverse=True) == expected
    assert sorted(np.bincount(schemes.power_law(1000, 4, 1.0, 200, generator(), KEY))) == [200, 200, 200, 400]


def test_power_law_draws_which_client_is_large_and_what_it_holds():
    dealt = [schemes.power_law(1000, 10, 1.5, 1, generator(seed), KEY) for seed in range(200)]
    sizes = np.array([np.bincount(client) for client in dealt])
    assert len({tuple(sorted(each)) for each in sizes}) == 1
    assert set(sizes.argmax(axis=1)) == set(range(10))
    # Of any hundred rows, the largest client holds its share.
    largest = np.mean(
        [client[:100] == client_sizes.argmax() for client, client_sizes in zip(dealt, sizes, strict=True)]
    )
    assert largest == pytest.approx(sizes.max() / 1000, abs=0.02)


def test_label_dirichlet_draws_the_shares_of_each_label():
    # Of Dirichlet(a, ..., a), a client's share has the mean 1/K and the variance (1/K)(1 - 1/K) / (K a + 1).
    labels = np.repeat([0, 1], [5000, 3000])
    counts = [
        label_counts(schemes.label_dirichlet(labels, 4, 0.5, 1, generator(seed), KEY), labels, 2) for seed in range(600)
    ]
    shares = np.array(counts) / [5000, 3000]
    # The few draws that would leave a client empty are drawn again.
    assert shares.mean(axis=(0, 1)) == pytest.approx([0.25, 0.25])
    assert shares.var(axis=(0, 1)) == pytest.approx(np.full(2, 0.25 * 0.75 / 3), rel=0.12)
    assert np.corrcoef(shares[:, 0, 0], shares[:, 0, 1])[0, 1] == pytest.approx(0, abs=0.12)


def test_label_dirichlet_with_a_large_alpha_copies_the_prior():
    labels = np.repeat([0, 1, 2, 3], [2000, 1000, 600, 400])
    counts = label_counts(schemes.label_dirichlet(labels, 20, 1e6, 1, generator(), KEY), labels, 4)
    assert counts == pytest.approx(np.tile([100, 50, 30, 20], (20, 1)), abs=2)


@given(pools(), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_each_client_gets_its_shards_and_few_labels(pool, shards, seed):
    labels, clients = pool
    clients = max(1, clients // shards)
    if clients * shards > len(labels):
        return
    client = schemes.shards(labels, clients, shards, generator(seed), KEY)
    sizes = np.bincount(client, minlength=clients)
    # Sizes of shards differ by one at most.
    assert sizes.min() >= len(labels) // (clients * shards) * shards
    assert sizes.max() <= -(-len(labels) // (clients * shards)) * shards


def test_shards_of_whole_labels_give_two_labels_to_a_client():
    labels = balanced(1000, 10)
    counts = label_counts(schemes.shards(labels, 50, 2, generator(), KEY), labels, 10)
    assert counts.sum(axis=1).tolist() == [20] * 50
    assert set((counts > 0).sum(axis=1)) == {1, 2}


def test_clusters_are_those_of_the_vectors():
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    group = np.arange(300) % 3
    found = schemes.clusters(centres[group] + generator(1).normal(size=(300, 2)), 3, generator(), KEY)
    assert len({(one, other) for one, other in zip(group, found, strict=True)}) == 3
    with pytest.raises(InputError, match=r"partitions.some.clusters: 4 clusters of 3 different vectors; at most 3"):
        schemes.clusters(centres[group], 4, generator(), KEY)


def test_periods_are_in_order_of_time_and_keep_a_value_together():
    values = np.array([f"{day:02d}" for day in generator().permutation(np.repeat(np.arange(30), 10))], dtype=object)
    period = schemes.periods(values, 4, KEY)
    assert np.bincount(period).tolist() == [70, 80, 70, 80]
    in_time = period[np.argsort(values)]
    assert (np.diff(in_time) >= 0).all()
    assert all(len(set(period[values == value])) == 1 for value in set(values))
    with pytest.raises(InputError, match=r"some.periods.count: a period is empty: 2 values, the most frequent"):
        schemes.periods(np.array(["a"] * 9 + ["b"], dtype=object), 3, KEY)


@given(st.lists(st.text(max_size=2), min_size=1), st.lists(st.text(max_size=2), min_size=1, max_size=30))
def test_a_further_example_is_of_the_period_of_the_latest_value_not_after_its_own(values, known):
    known = np.array(known, dtype=object)
    order = {value: place // 2 for place, value in enumerate(sorted(set(known)))}
    found = schemes.periods_among(np.array(values, dtype=object), known, np.array([order[value] for value in known]))
    assert found.tolist() == [max((order[each] for each in order if each <= value), default=0) for value in values]


@pytest.mark.parametrize(
    "deal",
    [
        lambda: schemes.iid(3, 4, generator(), KEY),
        lambda: schemes.label_shift(np.array([0, 1, 0]), 4, 1.0, generator(), KEY),
        lambda: schemes.label_dirichlet(np.array([0, 1, 0]), 4, 1.0, 1, generator(), KEY),
        lambda: schemes.shards(np.array([0, 1, 0]), 4, 1, generator(), KEY),
        lambda: schemes.quantity_shift(3, 4, 1.0, 1, generator(), KEY),
        lambda: schemes.power_law(3, 4, 1.0, 1, generator(), KEY),
    ],
    ids=["iid", "label_shift", "label_dirichlet", "shards", "quantity_shift", "power_law"],
)
def test_more_clients_than_examples_is_refused(deal):
    with pytest.raises(InputError, match=r"params.yaml: partitions.some.clients: 4 clients .* 3 examples"):
        deal()


@pytest.mark.parametrize("case", FLOWER["partitions"]["dirichlet"], ids=lambda case: f"alpha {case['alpha']}")
def test_label_dirichlet_deals_what_flwr_datasets_deals(case):
    labels, clients = np.array(FLOWER["given"]["labels"]), case["clients"]
    dealt = schemes.label_dirichlet(labels, clients, case["alpha"], case["least"], generator(case["seed"]), KEY)
    assert label_counts(dealt, labels, labels.max() + 1).tolist() == case["counts"]


def test_shards_are_like_those_of_flwr_datasets():
    labels, found = np.array(FLOWER["given"]["labels"]), FLOWER["partitions"]["shards"]
    several = []
    for seed in range(200):
        counts = label_counts(schemes.shards(labels, 10, 2, generator(seed), KEY), labels, labels.max() + 1)
        assert np.unique(counts.sum(axis=1)).tolist() == found["sizes"]
        several.append(np.count_nonzero(counts, axis=1).mean())
    error = np.std(several, ddof=1) / np.sqrt(len(several))
    # Both are means of as many draws.
    assert np.mean(several) == pytest.approx(found["labels"], abs=4 * np.sqrt(2) * error)
