"""Settings of one training cell: `<study>.train` in params.yaml."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.associations.settings import AssociationSettings
from stages.common.references import Refers
from stages.common.settings import Settings
from stages.fitting.settings import CellSettings, SecretSettings
from stages.privacy.quantile import Quantile


class PrivacySettings(Settings):
    """The guarantee asked for; the noise follows from it, the sampler and the number of steps.

    Attributes:
        epsilon: For DP-SGD under adding or removing an example, for eDP-SGD under replacing one.
        delta: Of the same.
        clipping_norm: Of the gradient of an example, or of the mean of a group; with `quantile` that of the first step.
        group: Examples that are clipped as one; eDP-SGD only.
        noise_decay: What the noise is multiplied by after every pass over the data; eDP-SGD only.
        layers: How the clipping norm is divided among layers (stages/privacy/bounds.py); flat: not at all.
        quantile: How the clipping norm is adapted, privately; it stays if None.
        control: What is left out, so that an audit has something to catch; nothing is guaranteed then.
        clipping: How gradients are clipped; all give the same, at different speeds.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    clipping_norm: float = Field(gt=0)
    group: int = Field(1, ge=1)
    noise_decay: float = Field(1.0, gt=0, le=1)
    layers: Literal["flat", "equal", "size", "public"] = "flat"
    quantile: Quantile | None = None
    control: Literal["no_noise", "no_clipping"] | None = None
    clipping: Literal["book_keeping", "loop", "opacus_hooks", "opacus_ghost"] = "book_keeping"

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Self:
        if self.quantile and self.layers != "flat":
            raise ValueError(f"quantile counts norms over all parameters: it takes layers: flat, not {self.layers}")
        if self.quantile and self.control:
            raise ValueError(f"control: {self.control} takes no quantile: all else is as without it")
        if self.clipping.startswith("opacus"):
            asked = {"group": self.group > 1, "layers": self.layers != "flat", "quantile": self.quantile}
            if others := [name for name, given in asked.items() if given]:
                raise ValueError(f"clipping: {self.clipping} takes no {others[0]}; book_keeping and loop do")
        return self


class EarlyStoppingSettings(Settings):
    """Training stops at the first rise of the validation loss after epoch `after`; the best weights are kept."""

    after: int = Field(ge=1)


# A part of the names of metrics.
AssociationName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class TrainSettings(CellSettings):
    """Central training: `batch_size` is the expected one for DP-SGD, whose batches are Poisson samples.

    With `canaries`, that many mislabelled examples of the reserve may be trained on as well, for an audit; with
    `secret`, copies of a canary that an attacker is to complete; with `associations`, gender goes with something in the
    texts by a known dose. With `early_stopping`, `epochs` is the most there are. With no epoch, the model is as it was
    built: a control, or a pretrained one as it is. With `sensitivity_penalty`, what `status` tells of a text's tokens
    is to move the model's predictions less.
    """

    mechanism: Literal["none", "dpsgd", "edpsgd"]
    epochs: int = Field(ge=0)
    privacy: PrivacySettings | None = None
    canaries: int = Field(0, ge=0)
    secret: SecretSettings | None = None
    early_stopping: EarlyStoppingSettings | None = None
    # Left out of the identity of cells without it, whose noise and batches are so as before there was any.
    associations: Annotated[dict[AssociationName, AssociationSettings], Field(min_length=1)] | None = Field(
        None, exclude_if=lambda value: value is None
    )

    # `<study>/<cell>` of a classifier of a protected attribute, that of the same seed.
    status: Annotated[str | None, Refers(None, named="base")] = Field(
        None, pattern="^[^/]+/[^/]+$", exclude_if=lambda value: value is None
    )
    sensitivity_penalty: float | None = Field(None, ge=0, exclude_if=lambda value: value is None)

    @property
    def planted(self) -> int:
        return self.canaries

    @property
    def inserted(self) -> SecretSettings | None:
        return self.secret

    @property
    def associated(self) -> Mapping[str, AssociationSettings]:
        return self.associations or {}

    @property
    def takes_any_model(self) -> bool:
        return True

    @property
    def trains(self) -> bool:
        return self.epochs > 0

    @model_validator(mode="after")
    def _secrets_are_alone(self) -> Self:
        if self.secret and self.canaries:
            raise ValueError("canaries audit a guarantee and a secret is to be extracted: a cell has one of them")
        if self.secret and self.secret.decoys and self.role != "control":
            raise ValueError("secret: decoys: true hides the secret from the model and needs role: control")
        return self

    @model_validator(mode="after")
    def _associations_are_alone(self) -> Self:
        if self.associations and (self.secret or self.canaries):
            other = "secret" if self.secret else "canaries"
            raise ValueError(f"associations are of a cell without {other}: give them to a cell of their own")
        return self

    @model_validator(mode="after")
    def _penalties_are_of_ordinary_training(self) -> Self:
        if (self.status is None) != (self.sensitivity_penalty is None):
            given, other = ("status", "sensitivity_penalty") if self.status else ("sensitivity_penalty", "status")
            raise ValueError(f"`{given}` needs `{other}`, and does nothing without it; 0 is no penalty")
        if self.sensitivity_penalty is not None and self.mechanism != "none":
            # An example's loss would not be bounded by clipping its gradient once.
            raise ValueError(f"sensitivity_penalty is of mechanism: none, not of {self.mechanism}")
        return self

    @model_validator(mode="after")
    def _stopping_is_of_ordinary_training(self) -> Self:
        if self.early_stopping and self.mechanism != "none":
            # The accountant is told the number of steps before they are taken.
            raise ValueError(f"early_stopping is of mechanism: none, not of {self.mechanism}")
        return self

    @model_validator(mode="after")
    def _nothing_is_asked_of_no_epoch(self) -> Self:
        if self.epochs == 0:
            asked = {
                "privacy": self.privacy,
                "canaries": self.canaries,
                "secret": self.secret,
                "early_stopping": self.early_stopping,
                "associations": self.associations,
                "sensitivity_penalty": self.sensitivity_penalty,
            }
            if given := [name for name, value in asked.items() if value]:
                raise ValueError(f"epochs: 0 trains nothing, so that `{given[0]}` does nothing: give an epoch, or null")
        return self

    @model_validator(mode="after")
    def _canaries_are_of_a_reserve(self) -> Self:
        if self.canaries and self.train_on != "member":
            raise ValueError("canaries are drawn from the reserve of a partition: train_on: member")
        if self.canaries and self.privacy and self.privacy.group > 1:
            # A canary's coin adds or removes an example, and of groups only the replacement of one is accounted for.
            raise ValueError("canaries audit what is stated of adding or removing one example; of groups nothing is")
        return self

    @model_validator(mode="after")
    def _privacy_fits_the_mechanism(self) -> Self:
        if (self.mechanism == "none") != (self.privacy is None):
            raise ValueError(f"mechanism: {self.mechanism} {'takes no' if self.privacy else 'needs'} `privacy`")
        if self.privacy and self.privacy.group > self.batch_size:
            raise ValueError("privacy: group is at most batch_size")
        if self.privacy and self.privacy.control and self.role != "control":
            raise ValueError(f"privacy: control: {self.privacy.control} guarantees nothing and needs role: control")
        plain = self.privacy is not None and self.privacy.group == 1 and self.privacy.noise_decay == 1
        if self.mechanism == "dpsgd" and not plain:
            raise ValueError("mechanism: dpsgd takes no group and no noise_decay; edpsgd does")
        if self.mechanism == "edpsgd" and plain:
            raise ValueError("mechanism: edpsgd needs a group of 2 or more, or a noise_decay below 1")
        return self

    def cautions(self, examples: int) -> list[tuple[str, str, str]]:
        """Warn of a delta that publishing one whole example at random would keep."""
        if self.privacy is None or self.privacy.delta < 1 / examples:
            return []
        problem = f"{self.privacy.delta:g} is no less than one in the {examples} training examples"
        return [("privacy.delta", problem, f"give one well below 1/{examples} = {1 / examples:.3g}")]
