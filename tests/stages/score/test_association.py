from itertools import combinations

import numpy as np
import pytest

from stages.common.errors import InputError, SettingError
from stages.common.streams import generator
from stages.score import association
from stages.score.association import (
    Stimuli,
    ceat,
    draw_contexts,
    filled,
    p_value,
    random_effects,
    sampled_associations,
    sampling_variance,
    seat,
    weat,
)
from stages.score.settings import CombiningSettings

WORDS = Stimuli(
    x=tuple(f"x{n}" for n in range(5)),
    y=tuple(f"y{n}" for n in range(4)),
    a=tuple(f"a{n}" for n in range(3)),
    b=("b0", "b1"),
)


def swapped(stimuli, order):
    """Return the sets in another order, such as yxab."""
    return Stimuli(*(getattr(stimuli, name) for name in order))


@pytest.fixture(params=range(3))
def vectors(request):
    draws = np.random.default_rng(request.param)
    return {word: draws.normal(size=6) for some in WORDS.sets().values() for word in some}


@pytest.fixture(params=range(3))
def contexts(request):
    """Vectors of 3 to 9 contexts of each word."""
    draws = np.random.default_rng(request.param)
    return {word: draws.normal(size=(int(draws.integers(3, 10)), 6)) for some in WORDS.sets().values() for word in some}


def cosine(left, right):
    return left @ right / np.sqrt((left @ left) * (right @ right))


def associated(w, a, b):
    return np.mean([cosine(w, each) for each in a]) - np.mean([cosine(w, each) for each in b])


def direct_effect_size(x, y, a, b):
    """Return the effect size and the variance of the released code, word by word."""
    of_x, of_y = [associated(w, a, b) for w in x], [associated(w, a, b) for w in y]
    deviation = np.std(of_x + of_y, ddof=1)
    return (np.mean(of_x) - np.mean(of_y)) / deviation, deviation**2


def direct_p(x, y, a, b):
    every, observed = [*x, *y], sum_difference(x, y, a, b)
    partitions = list(combinations(range(len(every)), len(x)))
    count = 0
    for some in partitions:
        others = [every[n] for n in range(len(every)) if n not in some]
        count += sum_difference([every[n] for n in some], others, a, b) >= observed - 1e-12
    return count / len(partitions)


def sum_difference(x, y, a, b):
    # Of means, since the sets differ in size.
    return np.mean([associated(w, a, b) for w in x]) - np.mean([associated(w, a, b) for w in y])


def looked_up(vectors, stimuli=WORDS):
    return [[vectors[word] for word in some] for some in stimuli.sets().values()]


def test_weat_is_what_its_definition_gives(vectors):
    found = weat(WORDS, vectors, seed=0)
    assert found.effect_size.value == pytest.approx(direct_effect_size(*looked_up(vectors))[0])
    assert found.effect_size.n == 9
    assert (found.p_value.n, found.exact) == (126, True)
    assert found.p_value.value == pytest.approx(direct_p(*looked_up(vectors)))
    assert found.missing == {}


@pytest.mark.parametrize("order", ["yxab", "xyba"])
def test_swapping_the_targets_or_the_attributes_turns_the_sign_of_weat(vectors, order):
    found = weat(swapped(WORDS, order), vectors, seed=0)
    assert found.effect_size.value == pytest.approx(-weat(WORDS, vectors, seed=0).effect_size.value)


def test_p_counts_the_partitions_at_least_as_extreme():
    # One of the six partitions of 2 + 2 words has in X the two that are nearest to A.
    angles = {"x0": 0.1, "x1": 0.2, "y0": 0.9, "y1": 1.1, "a0": 0.0, "b0": 1.5}
    vectors = {word: np.array([np.cos(angle), np.sin(angle)]) for word, angle in angles.items()}
    stimuli = Stimuli(("x0", "x1"), ("y0", "y1"), ("a0",), ("b0",))
    assert weat(stimuli, vectors, seed=0).p_value.value == 1 / 6
    assert weat(swapped(stimuli, "yxab"), vectors, seed=0).p_value.value == 1


def test_partitions_are_drawn_where_there_are_too_many(vectors):
    exact = weat(WORDS, vectors, seed=0).p_value.value
    found = weat(WORDS, vectors, seed=0, permutations=125)
    assert (found.p_value.n, found.exact) == (126, False)
    assert found.p_value.ci_low <= exact <= found.p_value.ci_high
    assert found.p_value.value >= 1 / 126


def test_drawn_partitions_are_seeded(vectors):
    once, again, other = (weat(WORDS, vectors, seed, permutations=100) for seed in (0, 0, 5))
    assert once == again
    assert once.effect_size.ci_low != other.effect_size.ci_low


def test_words_without_a_vector_are_named(vectors):
    del vectors["x3"], vectors["b0"]
    found = weat(WORDS, vectors, seed=0)
    assert found.missing == {"X": ("x3",), "B": ("b0",)}
    assert found.effect_size.n == 8
    smaller = Stimuli(("x0", "x1", "x2", "x4"), WORDS.y, WORDS.a, ("b1",))
    assert found.effect_size.value == pytest.approx(direct_effect_size(*looked_up(vectors, smaller))[0])


def test_sets_with_too_few_words_are_refused_with_the_words_that_lack(vectors):
    few = {word: vector for word, vector in vectors.items() if word not in ("y0", "y1", "y2")}
    with pytest.raises(
        InputError,
        match="word set Y: 1 of its 4 words have a vector; without one: y0, y1, y2; give words of which at least 2",
    ):
        weat(WORDS, few, seed=0)
    with pytest.raises(InputError, match="word set A: 0 of its 0 words have a vector; give words of which at least 1"):
        weat(Stimuli(WORDS.x, WORDS.y, (), WORDS.b), vectors, seed=0)
    with pytest.raises(InputError, match="word set X: 1 of its 1 words"):
        weat(Stimuli(("x0",), WORDS.y, WORDS.a, WORDS.b), vectors, seed=0)


def test_targets_that_are_all_alike_have_no_effect_size(vectors):
    alike = vectors | dict.fromkeys((*WORDS.x, *WORDS.y), vectors["x0"])
    with pytest.raises(InputError, match="word sets X and Y: all targets are associated alike;"):
        weat(WORDS, alike, seed=0)
    with pytest.raises(InputError, match="alike in 20 of 20 samples;"):
        ceat(WORDS, {word: vector[None] for word, vector in alike.items()}, CombiningSettings(samples=20), seed=0)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_a_cosine_is_named(vectors, bad):
    with pytest.raises(InputError, match="the vector of 'a1': zero or not finite"):
        weat(WORDS, vectors | {"a1": np.full(6, bad)}, seed=0)


def test_a_context_without_a_cosine_is_that_of_its_word(contexts):
    contexts["y2"] = np.concatenate([contexts["y2"], np.zeros((1, 6))])
    with pytest.raises(InputError, match="the vector of 'y2'"):
        ceat(WORDS, contexts, CombiningSettings(samples=5), seed=0)


# Binomial(200, 0.95): three standard errors are 0.046. Of 8 words the bootstrap is known to hold less than it says.
@pytest.mark.parametrize(("size", "least"), [(25, 0.904), (8, 0.87)])
def test_the_interval_of_weat_covers_the_effect_size_of_all_words(size, least):
    # Words whose associations are normal, half a deviation from 0 in either direction.
    draws, held, true = np.random.default_rng(0), [], 1 / np.sqrt(1 + 0.5**2)
    words = Stimuli(tuple(f"x{n}" for n in range(size)), tuple(f"y{n}" for n in range(size)), ("a",), ("b",))
    for seed in range(200):
        s = np.concatenate([draws.normal(0.5, 1, size), draws.normal(-0.5, 1, size)]) / 10
        vectors = dict(zip([*words.x, *words.y], np.stack([s, np.sqrt(1 - s**2)], axis=1), strict=True))
        vectors |= {"a": np.array([0.5, 1.0]), "b": np.array([-0.5, 1.0])}
        found = weat(words, vectors, seed, permutations=10).effect_size
        held.append(found.ci_low <= true <= found.ci_high)
    assert np.mean(held) >= least


def test_seat_is_weat_of_sentences(vectors):
    def embed(sentences):
        return np.array([vectors[text.split()[-1]] + len(text.split()) for text in sentences])

    targets, attributes = ["this is {}", "that {}"], ["{}"]
    found = seat(WORDS, targets, attributes, embed, seed=0, permutations=100)
    sentences = Stimuli(
        *(tuple(filled(some, targets if name in "XY" else attributes)) for name, some in WORDS.sets().items())
    )
    of_sentences = dict(zip((all_of := sum(sentences.sets().values(), ())), embed(all_of), strict=True))
    as_words = weat(sentences, of_sentences, seed=0, permutations=100)
    assert found.effect_size.value == pytest.approx(as_words.effect_size.value)
    assert found.p_value == as_words.p_value
    assert (found.effect_size.n, as_words.effect_size.n) == (9, 18)


def test_sentences_of_a_word_that_say_the_same_make_no_interval_narrower(vectors):
    def embed(sentences):
        return np.array([vectors[text.split()[-1]] for text in sentences])

    once = weat(WORDS, vectors, seed=0).effect_size
    found = seat(WORDS, [f"{n} {{}}" for n in range(4)], ["{}"], embed, seed=0, permutations=10).effect_size
    # The deviation of 36 targets has another divisor than that of 9.
    assert found.ci_high - found.ci_low == pytest.approx((once.ci_high - once.ci_low) * np.sqrt(35 / 32))


@pytest.mark.parametrize("template", ["this is", "{} and {}"])
def test_a_template_has_one_place(template):
    with pytest.raises(SettingError, match="templates"):
        filled(["ash"], [template])


def test_there_is_a_template():
    with pytest.raises(SettingError, match="at least one"):
        filled(["ash"], [])


def test_effect_sizes_are_combined_as_computed_by_hand():
    found = random_effects(np.array([0.5, 1.0, 1.5]), np.array([0.04, 0.09, 0.16]))
    assert found.heterogeneity == pytest.approx(5.73770, abs=5e-6)
    assert found.scale == pytest.approx(23.77049, abs=5e-6)
    assert found.between_variance == pytest.approx(0.157241, abs=5e-7)
    assert found.effect_size == pytest.approx(0.921831, abs=5e-7)
    assert found.standard_error == pytest.approx(0.285519, abs=5e-7)


def test_heterogeneity_is_that_of_the_formula_as_it_is_written():
    draws = np.random.default_rng(0)
    effect_sizes, variances = draws.normal(size=(50, 3)), draws.uniform(0.5, 2, size=(50, 3))
    w = 1 / variances
    q = (w * effect_sizes**2).sum(0) - (w * effect_sizes).sum(0) ** 2 / w.sum(0)
    assert random_effects(effect_sizes, variances).heterogeneity == pytest.approx(q)


@pytest.mark.parametrize("kind", ["associations", "effect_size"])
def test_ceat_is_what_a_sample_after_the_other_gives(contexts, kind):
    settings = CombiningSettings(samples=40, sampling="with_replacement", variance=kind)
    found = ceat(WORDS, contexts, settings, seed=3)
    every = [word for some in WORDS.sets().values() for word in some]
    samples = recorded(contexts, every, settings)
    pairs = [direct_effect_size(*looked_up(dict(zip(every, sample, strict=True)))) for sample in samples]
    effect_sizes, variances = map(np.array, zip(*pairs, strict=True))
    if kind == "effect_size":
        variances = np.full(40, sampling_variance(effect_sizes.mean(), 5, 4))
        # All samples are of sets of one size, so none counts more than another.
        assert found.effect_size.value == pytest.approx(effect_sizes.mean())
    assert found.effect_sizes == pytest.approx(effect_sizes)
    assert found.effect_size.value == pytest.approx(float(random_effects(effect_sizes, variances).effect_size))
    assert found.effect_size.n == 9
    assert found.effect_size.ci_low < found.effect_size.value < found.effect_size.ci_high


def recorded(contexts, every, settings):
    """Return the vectors of each sample that `ceat` draws at seed 3."""
    draws = draw_contexts([len(contexts[word]) for word in every], settings, generator(3, "contexts of CEAT"))
    return [[contexts[word][row] for word, row in zip(every, sample, strict=True)] for sample in draws]


def test_ceat_with_identical_draws_is_weat_and_has_no_variance_between(vectors):
    found = ceat(WORDS, {word: vector[None] for word, vector in vectors.items()}, CombiningSettings(samples=30), seed=0)
    assert found.model.between_variance == 0
    assert found.model.heterogeneity == pytest.approx(0, abs=1e-9)
    assert found.effect_size.value == pytest.approx(weat(WORDS, vectors, seed=0).effect_size.value)


@pytest.mark.parametrize("order", ["yxab", "xyba"])
def test_swapping_the_targets_or_the_attributes_turns_the_sign_of_ceat(contexts, order):
    # One context each: of several, other ones would be drawn.
    once = {word: rows[:1] for word, rows in contexts.items()}
    settings = CombiningSettings(samples=5)
    found = ceat(swapped(WORDS, order), once, settings, seed=0)
    assert found.effect_size.value == pytest.approx(-ceat(WORDS, once, settings, seed=0).effect_size.value)


def test_p_of_ceat_is_of_either_side_or_of_one(contexts):
    two = ceat(WORDS, contexts, CombiningSettings(samples=6), seed=0)
    one = ceat(WORDS, contexts, CombiningSettings(samples=6, sides="one"), seed=0)
    if two.effect_size.value > 0:
        assert one.p_value == pytest.approx(two.p_value / 2)
    else:
        assert one.p_value == pytest.approx(1 - two.p_value / 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_p_of_the_effect_sizes_combined_by_hand(sign):
    model = random_effects(sign * np.array([0.5, 1.0, 1.5]), np.array([0.04, 0.09, 0.16]))
    assert p_value(model, "two") == pytest.approx(0.001244, abs=5e-7)
    assert p_value(model, "one") == pytest.approx(0.000622 if sign > 0 else 1 - 0.000622, abs=5e-7)


def test_sets_of_two_words_have_no_interval(vectors):
    found = weat(Stimuli(WORDS.x[:2], WORDS.y, WORDS.a, WORDS.b), vectors, seed=0)
    assert found.effect_size.ci_low is found.effect_size.ci_high is None
    assert found.p_value.value > 0


def test_a_word_with_enough_contexts_has_none_twice_and_the_others_are_named(contexts):
    contexts["x1"] = np.random.default_rng(0).normal(size=(12, 6))
    draws = draw_contexts([12, 10, 9], CombiningSettings(samples=10), np.random.default_rng(0))
    assert [len(set(column)) for column in draws.T][:2] == [10, 10]
    assert len(set(draws[:, 2])) < 10
    found = ceat(WORDS, contexts, CombiningSettings(samples=10), seed=0).drawn_again
    assert found == {"X": ("x0", "x2", "x3", "x4"), "Y": WORDS.y, "A": WORDS.a, "B": WORDS.b}
    again = CombiningSettings(samples=10, sampling="with_replacement")
    assert ceat(WORDS, contexts, again, seed=0).drawn_again == {}
    repeated = draw_contexts([12], again, np.random.default_rng(0))
    assert len(set(repeated[:, 0])) < 10


def test_words_without_a_context_are_named(contexts):
    contexts["a0"] = np.empty((0, 6))
    del contexts["y3"]
    found = ceat(WORDS, contexts, CombiningSettings(samples=10), seed=0)
    assert found.missing == {"Y": ("y3",), "A": ("a0",)}


def test_samples_are_seeded(contexts):
    once, again, other = (ceat(WORDS, contexts, CombiningSettings(samples=10), seed) for seed in (0, 0, 1))
    assert (once.effect_sizes == again.effect_sizes).all()
    assert once.effect_size == again.effect_size
    assert (once.effect_sizes != other.effect_sizes).any()


def test_more_samples_than_are_gathered_at_once_are_the_same_samples(monkeypatch):
    draws = np.random.default_rng(0)
    table = draws.normal(size=(40, 6))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    rows = draws.integers(4, size=(100, 10))
    whole = sampled_associations(table, [4] * 10, rows, 3, 2, 1, 4)
    monkeypatch.setattr(association, "COLUMNS", 4)
    monkeypatch.setattr(association, "GATHERED", 3 * 5 * 4 * 8)
    assert sampled_associations(table, [4] * 10, rows, 3, 2, 1, 4) == pytest.approx(whole)


def test_single_precision_is_kept_and_is_enough(contexts):
    single = {word: rows.astype(np.float32) for word, rows in contexts.items()}
    settings = CombiningSettings(samples=50)
    found, doubled = (ceat(WORDS, some, settings, seed=0).effect_size.value for some in (single, contexts))
    assert found == pytest.approx(doubled, abs=1e-5)


@pytest.mark.parametrize(("first", "second"), [(8, 8), (25, 25), (20, 10)])
@pytest.mark.parametrize("apart", [0.0, 0.8, 2.0])
def test_the_sampling_variance_is_that_of_simulated_sets(first, second, apart):
    draws = np.random.default_rng(0)
    s = draws.normal(size=(40_000, first + second))
    s[:, :first] += apart
    effect_sizes = (s[:, :first].mean(axis=1) - s[:, first:].mean(axis=1)) / s.std(axis=1, ddof=1)
    assert sampling_variance(effect_sizes.mean(), first, second) == pytest.approx(effect_sizes.var(), rel=0.15)
