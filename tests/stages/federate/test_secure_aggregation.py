"""The protocol of a round: what cancels, what is recovered, what is refused, and what a masked update shows."""

import re

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chisquare, hypergeom

from stages.common.errors import SettingError
from stages.federate import secure_aggregation
from stages.federate.secure_aggregation import BLOCK, Masks, Party, SecureRound, mask, regular_graph
from stages.federate.settings import SecureAggregation

# More than a block of words, so that a mask goes on where the last block ended.
SIZE = BLOCK + 1000
COHORT = [3, 4, 8, 15, 16, 23, 42, 57, 99, 1000]


def agreed_round(cohort=COHORT, number=1, **settings):
    return SecureRound(SecureAggregation(**{"neighbours": 6, "threshold": 4} | settings), cohort, 0, number)


def plain(client, size=SIZE):
    """Return a client's words: integers of either sign."""
    return np.random.default_rng(client).integers(-(2**21), 2**21, size, dtype=np.int32).view(np.uint32)


def masked(protocol, client, size=SIZE):
    words = plain(client, size)
    mask(words, protocol.masks(client))
    return words


def summed(words):
    return np.sum(list(words), axis=0, dtype=np.uint32)


def unmasked(protocol, sent, answering=None):
    """Return the sum that the server ends with."""
    words = summed(masked(protocol, client) for client in sent)
    protocol.unmask(words, sent, sent if answering is None else answering)
    return words


@pytest.mark.parametrize("changes", [{}, {"neighbours": 64, "threshold": None}], ids=["graph", "all others"])
@pytest.mark.parametrize("lost", [[], [42], [3, 1000]], ids=str)
def test_the_sum_is_that_of_the_plain_words_of_those_who_sent(changes, lost):
    sent = [client for client in COHORT if client not in lost]
    assert (unmasked(agreed_round(**changes), sent) == summed(map(plain, sent))).all()


def test_a_client_that_is_gone_after_it_sent_still_counts():
    answering = [client for client in COHORT if client not in (15, 1000)]
    assert (unmasked(agreed_round(), COHORT, answering) == summed(map(plain, COHORT))).all()


@pytest.mark.parametrize("early", [0, 1, 2, 3])
def test_as_many_as_leave_the_threshold_may_drop_out_before_or_after_they_sent_and_no_more(early):
    # Of a client that answers 6 of its 9 neighbours must too.
    lost = COHORT[2:5]
    sent = [client for client in COHORT if client not in lost[:early]]
    answering = [client for client in COHORT if client not in lost]
    protocol = agreed_round(neighbours=10, threshold=6)
    assert (unmasked(protocol, sent, answering) == summed(map(plain, sent))).all()
    protocol = agreed_round(neighbours=10, threshold=6)
    words = summed(masked(protocol, client) for client in sent)
    before = words.copy()
    message = "in round 1 client 3 sent its update, and 5 of its 9 neighbours answer, of whom 6 are needed"
    with pytest.raises(SettingError, match=message):
        protocol.unmask(words, sent, answering[:-1])
    # Nothing is half done: no mask is gone, and nobody was asked for a share.
    assert (words == before).all()
    assert not any(party._given for party in protocol.parties.values())


def test_nobody_gives_shares_of_both_secrets_of_a_client():
    protocol = agreed_round()
    helper = protocol.parties[protocol._neighbours[8][0]]
    helper.reveal(8, "seed")
    assert helper.reveal(8, "seed") == helper.reveal(8, "seed")
    with pytest.raises(ValueError, match="a share of client 8's seed was given: one of its key is not"):
        helper.reveal(8, "key")


def test_a_server_that_calls_a_client_lost_after_its_sum_is_refused():
    protocol = agreed_round()
    unmasked(protocol, COHORT)
    without = [client for client in COHORT if client != 8]
    with pytest.raises(ValueError, match="client 8's seed was given"):
        unmasked(protocol, without)


def test_of_each_client_one_secret_is_recovered_and_from_as_many_shares_as_it_takes():
    protocol = agreed_round()
    sent = [client for client in COHORT if client != 42]
    unmasked(protocol, sent)
    given = [item for party in protocol.parties.values() for item in party._given.items()]
    assert dict(given) == {each: "key" if each == 42 else "seed" for each in COHORT}
    assert len(set(given)) == len(COHORT)
    assert len(given) == 4 * len(COHORT)
    assert not protocol.parties[42]._given


def test_a_masked_update_alone_is_uniform_and_not_the_plain_one():
    protocol = agreed_round()
    for client in COHORT[:3]:
        for words in (masked(protocol, client), masked(protocol, client) - plain(client)):
            top, low = (np.bincount(words >> shift & 255, minlength=256) for shift in (24, 0))
            assert min(chisquare(top).pvalue, chisquare(low).pvalue) > 1e-4
        assert (masked(protocol, client) != plain(client)).mean() > 0.999
        assert abs(np.corrcoef(masked(protocol, client), plain(client).view(np.int32))[0, 1]) < 0.02
    # What the test would say of a plain one.
    assert chisquare(np.bincount(plain(3) >> 24, minlength=256)).pvalue < 1e-100


@pytest.mark.parametrize("missing", ["a pair's", "a client's own"])
def test_a_sum_with_a_mask_left_out_is_wrong_everywhere(missing):
    protocol = agreed_round()
    seed, key, shared = protocol.masks(8)
    words = plain(8)
    if missing == "a pair's":
        mask(words, Masks(seed, key, shared[1:]))
    else:
        mask(words, Masks(seed, key, shared))
        secure_aggregation._add(words, seed, -1)
    words += summed(masked(protocol, client) for client in COHORT if client != 8)
    protocol.unmask(words, COHORT, COHORT)
    assert (words != summed(map(plain, COHORT))).mean() > 0.999


def test_rounds_clients_and_seeds_have_secrets_of_their_own():
    secrets = set()
    for number in (1, 2):
        for party in agreed_round(number=number).parties.values():
            secrets |= {party.seed, party.key, party.public}
    assert len(secrets) == 2 * 3 * len(COHORT)
    other = SecureRound(SecureAggregation(), COHORT, 1, 1)
    assert not secrets & {party.seed for party in other.parties.values()}
    assert (masked(agreed_round(), 3, 10) == masked(agreed_round(), 3, 10)).all()


@pytest.mark.parametrize(("cohort", "degree"), [(2, 1), (5, 4), (6, 4), (7, 2), (40, 8)])
def test_the_graph_is_regular_mutual_and_without_loops(cohort, degree):
    graph = regular_graph(range(cohort), degree, np.random.default_rng(0))
    assert sorted(graph) == list(range(cohort))
    for client, others in graph.items():
        assert len(set(others)) == len(others) == degree
        assert client not in others
        assert all(client in graph[other] for other in others)


def test_the_graph_of_each_round_is_another():
    graphs = [agreed_round(number=number)._neighbours for number in (1, 2)]
    assert any(set(graphs[0][client]) != set(graphs[1][client]) for client in COHORT)


def test_in_a_small_cohort_two_thirds_of_the_others_are_needed():
    settings = SecureAggregation()
    assert [settings.needed(cohort) for cohort in (2, 3, 10, 65, 1000)] == [1, 2, 6, 43, 43]
    assert [settings.degree(cohort) for cohort in (2, 3, 10, 65, 1000)] == [1, 2, 9, 64, 64]


def test_the_default_graph_is_as_safe_as_its_description_says():
    # A union bound over a thousand clients, whose 64 neighbours are drawn from the 999 others.
    settings = SecureAggregation()
    k, t = settings.neighbours, settings.needed(1000)
    exposed = 1000 * hypergeom(999, 200, k).sf(t - 1)
    lost = 1000 * hypergeom(999, 50, k).sf(k - t)
    assert round(np.log2(exposed)) == -46
    assert round(np.log2(lost)) == -38


def test_a_party_of_a_share_that_it_does_not_hold_has_none_to_give():
    with pytest.raises(KeyError):
        Party(np.random.default_rng(0)).reveal(1, "seed")


@pytest.mark.parametrize(
    ("cohort", "changes", "setting", "message"),
    [
        ([5], {"threshold": None}, "threshold", "1 is more than the 0 other clients of round 1"),
        (range(4), {}, "threshold", "4 is more than the 3 other clients of round 1"),
        (range(5), {"bits": 31}, "bits", "5 clients in round 1 of 31 bits overflow the sum's 32; 2 do not"),
        (range(1025), {}, "bits", "1025 clients in round 1 of 22 bits overflow the sum's 32; 1024 do not"),
    ],
    ids=["alone", "few", "long", "many"],
)
def test_a_cohort_that_does_not_fit_is_refused_before_anything_is_sent(cohort, changes, setting, message):
    with pytest.raises(SettingError, match=re.escape(message.split(";")[0])) as error:
        agreed_round(cohort, **changes)
    assert error.value.setting == f"secure_aggregation.{setting}"
    assert all(part in error.value.remedy for part in message.split("; ")[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neighbours": 7}, "multiple of 2"),
        ({"neighbours": 0}, "greater than or equal to 2"),
        ({"neighbours": 6, "threshold": 7}, "threshold: 7 is more than the 6 neighbours of a client"),
        ({"neighbours": 6, "threshold": 3}, "with 3 shares recover both secrets of a client; give 4 or more"),
        ({"clip": 0.0}, "greater than 0"),
        ({"bits": 1}, "greater than or equal to 2"),
        ({"bits": 32}, "less than or equal to 31"),
        ({"drop_out": 1.0}, "less than 1"),
        ({"modulus": 2**32}, "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_what_would_not_be_secure_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        SecureAggregation(**changes)
