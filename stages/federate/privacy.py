"""Federations that protect whole clients: their updates are clipped, and what is released of them takes noise.

One client with all its examples adds at most the clipping norm C to a round's sum. How much that tells depends on how
clients come to take part, and on which noise is added:

- DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963): each client joins a round independently with probability q, and
  each round's sum takes noise of its own. The divisor is the expected cohort, which tells nothing of who came (the
  estimator with a fixed denominator, every client's weight 1). It is the Poisson-sampled Gaussian mechanism.
  By activity a client joins with min(q, c n^a) for public q and c: that is no more than q, which is accounted for; the
  divisor then is `clients_per_round`, which need not be the expected cohort, but tells nothing either.
- DP-FTRL (Kairouz et al. 2021, arXiv 2103.00039): clients take their turns in a fixed order, so that nothing rests on
  chance; what is released are the sums of all rounds so far, by a tree of partial sums that each take noise once.
  The order is of a public number of clients, so a neighbour has another in a client's place, which sends nothing.

Whatever the server's optimiser makes of what is released costs nothing more.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from stages.common.streams import generator, identity
from stages.federate.rules import Power
from stages.federate.selection import check_cohort, rounds_of_a_pass
from stages.federate.settings import ClientPrivacy, FederateSettings
from stages.privacy import accounting
from stages.privacy.quantile import shifted_count


class PrivateMean(Protocol):
    """The noised mean of clipped updates, round after round.

    Attributes:
        clipping_norm: Of the next round.
    """

    clipping_norm: float

    def release(self, total: Tensor, norms: list[float], number: int) -> Tensor:
        """Return the (P,) mean update of a round; an empty cohort's is noise alone.

        Args:
            total: (P,) sum of the clipped updates, in float64.
            norms: Of the updates before clipping.
            number: Of the round, from 1; rounds follow one another.
        """

    def statement(self) -> dict[str, Any]:
        """Return the content of privacy.json."""


def private_mean(settings: FederateSettings, clients: int, seed: int) -> PrivateMean:
    """Return the mechanism that the settings ask for.

    Args:
        settings: With `privacy`.
        clients: Of the population, which is taken for public.
        seed: Of the noise, which so is no secret: for experiments only.

    Raises:
        SettingError: The cohort is larger than the population, the epsilon out of reach, or the quantile's noise too
            small.
    """
    assert settings.privacy is not None
    check_cohort(clients, settings.clients_per_round)
    kind = PoissonMean if settings.mechanism == "dp_fedavg" else TreeMean
    return kind(settings, settings.privacy, clients, seed)


class PoissonMean:
    """DP-FedAvg; see private_mean."""

    def __init__(self, settings: FederateSettings, asked: ClientPrivacy, clients: int, seed: int) -> None:
        self._asked, self._seed, self._cell = asked, seed, identity(settings)
        # Of those that join, as many as do not drop out are expected to report.
        self._expected = settings.clients_per_round * (1 - settings.participation.drop_out)
        self.clipping_norm = asked.clipping_norm
        self._rule = rule = settings.selection
        # By activity each client has its own, which depends on it alone; the guarantee of the largest holds for all.
        probability = rule.most if isinstance(rule, Power) else settings.clients_per_round / clients

        def mechanism(noise: float) -> accounting.Mechanism:
            return accounting.Mechanism(probability, (accounting.Phase(settings.rounds, noise),))

        multiplier = accounting.noise_multiplier(asked.epsilon, asked.delta, mechanism)
        self._mechanism = mechanism(multiplier)
        quantile = asked.quantile
        self._multiplier = multiplier if quantile is None else quantile.gradient_multiplier(multiplier)
        self._counts = generator(seed, "noise of the counts of clients", *self._cell)

    def release(self, total: Tensor, norms: list[float], number: int) -> Tensor:
        drawn = _normal(total, self._multiplier * self.clipping_norm, self._seed, *self._cell, number)
        if (quantile := self._asked.quantile) is not None:
            count = shifted_count(torch.tensor(norms), self.clipping_norm)
            self.clipping_norm = quantile.next(self.clipping_norm, count, self._expected, self._counts)
        return (total + drawn) / self._expected

    def statement(self) -> dict[str, Any]:
        stated = _of_clients(self._mechanism, self._asked)
        if isinstance(self._rule, Power):
            rule = self._rule
            how = f"each with min({rule.most:g}, {rule.rate:g} x examples^{rule.exponent:g}), at most as stated"
            stated["sampler"] |= {"how": how}
        if (quantile := self._asked.quantile) is None:
            return stated
        adapted = {"gradient_noise_multipliers": [self._multiplier], "last_clipping_norm": self.clipping_norm}
        return stated | {"quantile": quantile.model_dump() | adapted}


class TreeMean:
    """DP-FTRL, a tree for each pass over the clients; see private_mean.

    The sum of a pass's first t rounds is made of the tree's nodes of t's binary digits. A client is in one leaf, and so
    in at most floor(log2 T) + 1 nodes of the T leaves of a pass: so many Gaussian mechanisms, in every pass.
    """

    def __init__(self, settings: FederateSettings, asked: ClientPrivacy, clients: int, seed: int) -> None:
        self._asked, self._seed, self._cell = asked, seed, identity(settings)
        self._cohort = settings.clients_per_round * (1 - settings.participation.drop_out)
        self.clipping_norm = asked.clipping_norm
        self._rounds = rounds_of_a_pass(clients, settings.clients_per_round)
        whole, rest = divmod(settings.rounds, self._rounds)
        # The tree of the last pass may be smaller.
        nodes = whole * self._rounds.bit_length() + rest.bit_length()
        self._passes = whole + (rest > 0)

        def mechanism(noise: float) -> accounting.Mechanism:
            return accounting.Mechanism(1.0, (accounting.Phase(nodes, noise),))

        self._multiplier = accounting.noise_multiplier(asked.epsilon, asked.delta, mechanism)
        self._mechanism = mechanism(self._multiplier)

    def release(self, total: Tensor, norms: list[float], number: int) -> Tensor:
        del norms
        passed, place = divmod(number - 1, self._rounds)
        end = place + 1
        level = (end & -end).bit_length() - 1
        # The sum so far is made of other nodes than before: one that ends here for those that it is made of.
        gained = self._of_node(total, passed, level, end)
        for lower in range(level):
            gained -= self._of_node(total, passed, lower, end - (1 << lower))
        return (total + gained) / self._cohort

    def _of_node(self, like: Tensor, passed: int, level: int, end: int) -> Tensor:
        """Return the noise of the node over the 2^level rounds of a pass that end with this one."""
        deviation = self._multiplier * self.clipping_norm
        return _normal(like, deviation, self._seed, *self._cell, passed, level, end)

    def statement(self) -> dict[str, Any]:
        how = "each client once in a pass, in an order that does not depend on the data"
        sampler = {
            "kind": "in turn",
            "of": "client",
            "how": how,
            "passes": self._passes,
            "rounds_of_a_pass": self._rounds,
        }
        adjacency = "replace one client by one that sends nothing"
        return _of_clients(self._mechanism, self._asked) | {"sampler": sampler, "adjacency": adjacency}


def _normal(like: Tensor, deviation: float, seed: int, *which: int) -> Tensor:
    # numpy's: of a seed torch's generator on a CPU takes 32 bits alone, so that two of many rounds could get one noise.
    return torch.from_numpy(generator(seed, "noise of updates", *which).normal(0.0, deviation, len(like)))


def _of_clients(mechanism: accounting.Mechanism, asked: ClientPrivacy) -> dict[str, Any]:
    stated = accounting.statement(mechanism, asked.delta, asked.clipping_norm)
    return stated | {
        "unit": "client",
        "adjacency": stated["adjacency"].replace("example", "client"),
        "clipped": "update of a client",
        "covers": "the weights of all rounds of this one federation; not losses, metrics, who came or how many clients",
        "composition": "models of other seeds and cells saw the same clients: releasing several adds up",
        "of_one_example": "what a client holds is replaced when one of its examples is: replace_one_epsilon",
        "sampler": stated["sampler"] | {"of": "client"},
    }
