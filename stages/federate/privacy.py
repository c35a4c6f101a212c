"""Federated averaging that protects whole clients: DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963).

Each client joins a round independently with probability q, its update is clipped to a norm of C, and to the sum of the
cohort normal noise of deviation z C is added; the divisor is the expected size of the cohort, which tells nothing of
who came (the paper's estimator with a fixed denominator, every client's weight 1). One client with all its examples
thus adds at most C to a round: the Poisson-sampled Gaussian mechanism, composed over the rounds. Whatever the server's
optimiser makes of the means costs nothing more.
"""

from typing import Any

import torch
from torch import Tensor

from stages.common.streams import generator, torch_seed
from stages.federate.population import check_cohort
from stages.federate.settings import FederateSettings
from stages.privacy import accounting
from stages.privacy.quantile import shifted_count


class PrivateMean:
    """The noised mean of clipped updates, round after round.

    Args:
        settings: With `privacy`.
        clients: Of the population, which is taken for public.
        seed: Of the noise, which so is no secret: for experiments only.

    Attributes:
        clipping_norm: Of the next round.

    Raises:
        SettingError: The cohort is larger than the population, the epsilon out of reach, or the quantile's noise too
            small.
    """

    def __init__(self, settings: FederateSettings, clients: int, seed: int) -> None:
        assert settings.privacy is not None
        check_cohort(clients, settings.clients_per_round)
        self._asked, self._seed, self._expected = settings.privacy, seed, settings.clients_per_round
        self.clipping_norm = self._asked.clipping_norm

        def mechanism(noise: float) -> accounting.Mechanism:
            return accounting.Mechanism(self._expected / clients, (accounting.Phase(settings.rounds, noise),))

        multiplier = accounting.noise_multiplier(self._asked.epsilon, self._asked.delta, mechanism)
        self._mechanism = mechanism(multiplier)
        quantile = self._asked.quantile
        self._multiplier = multiplier if quantile is None else quantile.gradient_multiplier(multiplier)
        self._counts = generator(seed, "noise of the counts of clients")

    def release(self, total: Tensor, norms: list[float], number: int) -> Tensor:
        """Return the (P,) mean update of a round; an empty cohort's is noise alone.

        Args:
            total: (P,) sum of the clipped updates, in float64.
            norms: Of the updates before clipping.
            number: Of the round.
        """
        noise = torch.Generator().manual_seed(torch_seed(self._seed, "noise of updates", number))
        drawn = torch.empty_like(total).normal_(0.0, self._multiplier * self.clipping_norm, generator=noise)
        if (quantile := self._asked.quantile) is not None:
            count = shifted_count(torch.tensor(norms), self.clipping_norm)
            self.clipping_norm = quantile.next(self.clipping_norm, count, self._expected, self._counts)
        return (total + drawn) / self._expected

    def statement(self) -> dict[str, Any]:
        """Return the content of privacy.json."""
        stated = accounting.statement(self._mechanism, self._asked.delta, self._asked.clipping_norm)
        adjacency = stated["adjacency"].replace("example", "client")
        of_clients = {
            "unit": "client",
            "adjacency": adjacency,
            "clipped": "update of a client",
            "covers": "the weights of all rounds of this one federation; not the losses and metrics of its clients",
            "composition": "models of other seeds and cells saw the same clients: releasing several adds up",
            "sampler": stated["sampler"] | {"of": "client"},
        }
        if (quantile := self._asked.quantile) is None:
            return stated | of_clients
        adapted = {"gradient_noise_multipliers": [self._multiplier], "last_clipping_norm": self.clipping_norm}
        return stated | of_clients | {"quantile": quantile.model_dump() | adapted}
