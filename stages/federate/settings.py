"""Settings of one federated cell: `<study>.federate` in params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.common.settings import Settings
from stages.federate.rules import Power, PowerOfChoice, Selection, Uniform
from stages.fitting.settings import CellSettings
from stages.privacy.quantile import Quantile


class SGD(Settings):
    """A client's SGD; its momentum starts anew in every round."""

    kind: Literal["sgd"]
    momentum: float = Field(0.0, ge=0, lt=1)


class AdamW(Settings):
    """A client's AdamW (Loshchilov and Hutter 2019); its moments start anew in every round."""

    kind: Literal["adamw"]
    weight_decay: float = Field(0.0, ge=0)


class Mean(Settings):
    """The next weights are the clients' mean: SGD of learning rate 1."""

    kind: Literal["mean"]


class ServerSGD(Settings):
    """SGD on the negative mean update, with momentum FedAvgM (Hsu et al. 2019)."""

    kind: Literal["sgd"]
    learning_rate: float = Field(gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)


class Adagrad(Settings):
    """FedAdagrad (Reddi et al. 2021, algorithm 2); `tau` is the degree of adaptivity."""

    kind: Literal["adagrad"]
    learning_rate: float = Field(gt=0)
    beta1: float = Field(0.0, ge=0, lt=1)
    tau: float = Field(1e-3, gt=0)


class Adam(Settings):
    """FedAdam and FedYogi (Reddi et al. 2021, algorithm 2)."""

    kind: Literal["adam", "yogi"]
    learning_rate: float = Field(gt=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    tau: float = Field(1e-3, gt=0)


ServerSettings = Mean | ServerSGD | Adagrad | Adam


class Participation(Settings):
    """What keeps clients of a cohort from their whole update; each is drawn for every client and round.

    Attributes:
        drop_out: Probability that a client takes the weights and sends nothing back.
        stragglers: Probability that a client is slow: by the deadline it has made a share of the steps of others
            that is uniform in [0, 1). What it has made counts; with no step it has dropped out.
        deadline: Local steps that others make until the round ends; None: as many as they have.
        available: Probability that a client can be asked in a round, drawn before the cohort is.
    """

    drop_out: float = Field(0.0, ge=0, lt=1)
    stragglers: float = Field(0.0, ge=0, le=1)
    deadline: int | None = Field(None, ge=1)
    available: float = Field(1.0, gt=0, le=1, exclude_if=lambda value: value == 1)

    @model_validator(mode="after")
    def _stragglers_are_late(self) -> Self:
        if self.stragglers and self.deadline is None:
            raise ValueError(f"stragglers: {self.stragglers} needs a `deadline`, in local steps, that they miss")
        return self


class ClientPrivacy(Settings):
    """The guarantee asked for of whole clients; the noise follows from it, the cohort and the number of rounds.

    Attributes:
        epsilon: Under adding or removing a client with all its examples.
        delta: Of the same.
        clipping_norm: Of a client's update; with `quantile` that of the first round.
        quantile: How the clipping norm follows the norms of updates, privately; it stays if None.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    clipping_norm: float = Field(gt=0)
    quantile: Quantile | None = None


class Continual(Settings):
    """The partition's periods one after another, with as many rounds each; the model goes on from period to period.

    Attributes:
        retention: Periods for which an example is kept, its own among them: with 1 older data are deleted; `all` keeps
            them for good.
        most: The most examples that a device keeps, the latest; all if None.
        resets_server: Whether the server's optimiser starts anew in each period.
    """

    retention: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    most: int | None = Field(None, ge=1)
    resets_server: bool = False


class Devices(Settings):
    """What is measured of devices with many and with few examples apart, and of what their selection says of them.

    Attributes:
        heavy: Quantile of the devices' examples from which a device is heavy.
    """

    heavy: float = Field(gt=0, lt=1)


class SecureAggregation(Settings):
    """SecAgg+ (Bell et al. 2020): the server learns the sum of a round's updates, and no update of one client.

    Attributes:
        neighbours: Even degree k of the random graph along which clients mask and share; in a cohort of at most as many
            all others. With 64, and a fifth of a thousand clients in league with the server, the odds that it learns
            one client's update are 2^-46; with a twentieth dropped out, those that the sum is lost 2^-38.
        threshold: t, shares of neighbours that recover a secret; two thirds of the neighbours, rounded up, if None.
        clip: c, each value of a client's weighted update is clipped to [-c, c]; weights are at most 1.
        bits: A value is rounded to the nearest of the 2^bits - 1 multiples of c / (2^(bits-1) - 1) in [-c, c].
        drop_out: Probability that a client which sent its update is gone before the masks are removed.
    """

    neighbours: int = Field(64, ge=2, multiple_of=2)
    threshold: int | None = Field(None, ge=1)
    clip: float = Field(8.0, gt=0)
    bits: int = Field(22, ge=2, le=31)
    drop_out: float = Field(0.0, ge=0, lt=1)

    @property
    def largest(self) -> int:
        """The largest integer that a value is rounded to."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    def step(self) -> float:
        """What an integer of 1 stands for."""
        return self.clip / self.largest

    @property
    def most_clients(self) -> int:
        """How many clients' integers add up to one of 32 bits, whatever they are."""
        return (2**31 - 1) // self.largest

    def degree(self, cohort: int) -> int:
        """Return how many neighbours a client has."""
        return min(self.neighbours, cohort - 1)

    def needed(self, cohort: int) -> int:
        """Return how many of a client's neighbours must answer."""
        return -(-2 * self.degree(cohort) // 3) if self.threshold is None else self.threshold

    @model_validator(mode="after")
    def _half_of_the_neighbours_recover_nothing(self) -> Self:
        if self.threshold is None:
            return self
        if self.threshold > self.neighbours:
            raise ValueError(f"threshold: {self.threshold} is more than the {self.neighbours} neighbours of a client")
        if 2 * self.threshold <= self.neighbours:
            # Told that a client has dropped out, one half would give its key, and the other its seed.
            enough = self.neighbours // 2 + 1
            raise ValueError(
                f"threshold: two halves of {self.neighbours} neighbours could be told different things by the server, "
                f"and with {self.threshold} shares recover both secrets of a client; give {enough} or more"
            )
        return self


class FederateSettings(CellSettings):
    """Federated training; `batch_size` and `learning_rate` are those of a client's local optimiser.

    Only members are dealt to clients: non-members and the reserve cannot be fitted by federation. Algorithm and both
    optimisers are axes of their own: docs/studies/federated_nlp.md says which point each published name is.

    Attributes:
        mechanism: How updates are made and combined: fedavg (McMahan et al. 2017), fedprox (Li et al. 2020), scaffold
            (Karimireddy et al. 2020, option II), fednova (Wang et al. 2020); with a guarantee for
            clients, dp_fedavg (McMahan et al. 2018) and dp_ftrl (Kairouz et al. 2021).
        clients_per_round: The cohort; with dp_fedavg the expected one, which each client joins independently; with
            dp_ftrl clients take their turns.
        selection: How the cohort is drawn, uniformly without replacement by default.
        weighting: What the updates of fedavg and fedprox count: the client's examples if None; `equal`;
            `horvitz_thompson`, its examples by the probability that it takes part, which adds up to the mean over all
            clients without bias; `hajek`, the same by the sum of the weights, which varies less and is biased.
        privacy: Of dp_fedavg and dp_ftrl.
        mu: Of the proximal term mu/2 ||w - w_server||^2 in the clients' loss, of fedprox and, if given, fednova.
        secure_aggregation: Of the clients' updates; they are summed in the clear if None.
        freeze: Parts of the model that are neither trained nor sent, by a name within their parameters' names:
            `embeddings`, `layer.0`, `hidden`.
        continual: Whether, and how, examples come period by period; all are there from the start if None.
        devices: Whether devices are measured apart.
        backend: Where clients are trained: in processes of this machine, or by actors of a Ray cluster.
    """

    mechanism: Literal["fedavg", "fedprox", "scaffold", "fednova", "dp_fedavg", "dp_ftrl"]
    partition: str
    train_on: Literal["train", "member"]
    rounds: int = Field(ge=1)
    clients_per_round: int = Field(ge=1)
    local_epochs: int = Field(ge=1)
    client: Annotated[SGD | AdamW, Field(discriminator="kind")] = SGD(kind="sgd")
    server: Annotated[ServerSettings, Field(discriminator="kind")] = Mean(kind="mean")
    privacy: ClientPrivacy | None = None
    # Not said if it is not there: draws that depend on all settings stay as they were.
    secure_aggregation: SecureAggregation | None = Field(None, exclude_if=lambda value: value is None)
    mu: float | None = Field(None, ge=0)
    freeze: list[str] = Field([])
    participation: Participation = Participation()
    selection: Selection = Field(Uniform(rule="uniform"), exclude_if=lambda value: isinstance(value, Uniform))
    weighting: Literal["equal", "horvitz_thompson", "hajek"] | None = Field(
        None, exclude_if=lambda value: value is None
    )
    continual: Continual | None = Field(None, exclude_if=lambda value: value is None)
    devices: Devices | None = Field(None, exclude_if=lambda value: value is None)
    backend: Literal["processes", "ray"] = "processes"

    @property
    def dealt(self) -> bool:
        """Each example belongs to a client."""
        return True

    @property
    def plain(self) -> bool:
        """Whether a client's step is that of SGD alone."""
        sgd = isinstance(self.client, SGD) and not self.client.momentum
        return sgd and not self.mu and self.mechanism != "scaffold"

    @property
    def takes_any_model(self) -> bool:
        return True

    @model_validator(mode="after")
    def _mu_is_of_a_proximal_term(self) -> Self:
        if self.mechanism == "fedprox" and self.mu is None:
            raise ValueError("mechanism: fedprox needs `mu`, the weight of its proximal term")
        if self.mechanism not in ("fedprox", "fednova") and self.mu is not None:
            raise ValueError(f"mechanism: {self.mechanism} takes no `mu`; fedprox and fednova do")
        return self

    @model_validator(mode="after")
    def _privacy_fits_the_mechanism(self) -> Self:
        if self.mechanism.startswith("dp_") != (self.privacy is not None):
            raise ValueError(f"mechanism: {self.mechanism} {'takes no' if self.privacy else 'needs'} `privacy`")
        if self.mechanism == "dp_ftrl" and self.privacy and self.privacy.quantile:
            raise ValueError(
                "mechanism: dp_ftrl takes no privacy.quantile: its tree adds up rounds of one clipping norm"
            )
        return self

    @model_validator(mode="after")
    def _clients_are_of_the_algorithm(self) -> Self:
        # Control variates and normalisation are sums of gradients, which AdamW does not add up.
        plain = isinstance(self.client, SGD)
        if self.mechanism == "fednova" and not plain:
            raise ValueError(f"mechanism: fednova takes client.kind: sgd, not {self.client.kind}")
        if self.mechanism == "scaffold" and not (isinstance(self.client, SGD) and self.client.momentum == 0):
            raise ValueError("mechanism: scaffold takes client.kind: sgd without momentum")
        return self

    @model_validator(mode="after")
    def _selection_fits_the_mechanism(self) -> Self:
        rule = self.selection
        if (
            self.mechanism in ("scaffold", "fednova")
            and getattr(rule, "draw", "without_replacement") != "without_replacement"
        ):
            raise ValueError(f"selection.draw: {self.mechanism} takes cohorts drawn without replacement")
        if not self.mechanism.startswith("dp_"):
            return self
        if self.participation.available < 1:
            raise ValueError(f"participation.available: not accounted for by {self.mechanism}; leave it out")
        if isinstance(rule, Uniform):
            return self
        if not (self.mechanism == "dp_fedavg" and isinstance(rule, Power) and rule.rate is not None):
            raise ValueError(
                f"selection: {self.mechanism} wants clients whose probability depends on no other client: leave "
                "`selection` out, or give dp_fedavg {rule: power, draw: independently, rate: ..., most: ...}"
            )
        if self.privacy is not None and self.privacy.quantile is not None:
            raise ValueError("privacy.quantile: wants a known expected cohort, which `selection` by examples has not")
        return self

    @model_validator(mode="after")
    def _a_guarantee_is_of_clients_that_stay(self) -> Self:
        if self.continual is not None and self.privacy is not None:
            raise ValueError("continual: no guarantee is built for clients whose data change; leave out `privacy`")
        return self

    @model_validator(mode="after")
    def _candidates_are_enough(self) -> Self:
        rule = self.selection
        if isinstance(rule, PowerOfChoice) and rule.candidates < self.clients_per_round:
            fewer = f"{rule.candidates} are fewer than the {self.clients_per_round} clients of a round"
            raise ValueError(f"selection.candidates: {fewer}")
        return self

    @model_validator(mode="after")
    def _weighting_is_known(self) -> Self:
        if self.weighting is not None and self.mechanism not in ("fedavg", "fedprox"):
            raise ValueError(f"weighting: {self.mechanism} has its own; leave it out")
        if self.weighting not in ("horvitz_thompson", "hajek"):
            return self
        if self.participation.available < 1:
            raise ValueError(
                f"weighting: {self.weighting} wants devices that can always be asked; leave `available` out"
            )
        if self.participation.stragglers:
            raise ValueError(f"weighting: {self.weighting} knows no odds of stragglers; leave `stragglers` out")
        # Who is never drawn no weights make up for; and of rules by losses nobody knows how probable a cohort was.
        if (rule := self.selection.rule) not in (known := ("uniform", "power", "log", "strata")):
            raise ValueError(f"weighting: {self.weighting} is not known of rule: {rule}; it is of {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _sums_are_secure(self) -> Self:
        secure, cohort = self.secure_aggregation, self.clients_per_round
        if secure is None:
            return self
        if self.mechanism == "scaffold":
            raise ValueError("mechanism: scaffold takes no `secure_aggregation`, which does not mask control variates")
        if cohort < 2:
            raise ValueError(f"clients_per_round: {cohort} is no cohort for `secure_aggregation`; give 2 or more")
        if cohort > secure.most_clients:
            raise ValueError(
                f"secure_aggregation.bits: {cohort} clients of {secure.bits} bits overflow the sum's 32; "
                f"give fewer bits, or a cohort of at most {secure.most_clients}"
            )
        if secure.needed(cohort) >= cohort:
            raise ValueError(
                f"secure_aggregation.threshold: {secure.threshold} is more than the {cohort - 1} other clients of the "
                "cohort; give a smaller threshold, or a larger cohort"
            )
        return self
