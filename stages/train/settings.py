"""Settings of one training cell: `<study>.train` in params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.common.settings import Settings
from stages.fitting.settings import CellSettings


class PrivacySettings(Settings):
    """The guarantee asked for; the noise follows from it, the sampler and the number of steps.

    Attributes:
        epsilon: For DP-SGD under adding or removing an example, for eDP-SGD under replacing one.
        delta: Of the same.
        clipping_norm: Of the gradient of an example, or of the mean of a group.
        group: Examples that are clipped as one; eDP-SGD only.
        noise_decay: What the noise is multiplied by after every pass over the data; eDP-SGD only.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    clipping_norm: float = Field(gt=0)
    group: int = Field(1, ge=1)
    noise_decay: float = Field(1.0, gt=0, le=1)


class TrainSettings(CellSettings):
    """Central training: `batch_size` is the expected one for DP-SGD, whose batches are Poisson samples.

    With `canaries`, that many mislabelled examples of the reserve may be trained on as well, for an audit.
    """

    mechanism: Literal["none", "dpsgd", "edpsgd"]
    epochs: int = Field(ge=1)
    privacy: PrivacySettings | None = None
    canaries: int = Field(0, ge=0)

    @property
    def planted(self) -> int:
        return self.canaries

    @model_validator(mode="after")
    def _canaries_are_of_a_reserve(self) -> Self:
        if self.canaries and self.train_on == "train":
            raise ValueError("canaries are drawn from the reserve of a partition: train_on: member")
        return self

    @model_validator(mode="after")
    def _privacy_fits_the_mechanism(self) -> Self:
        if (self.mechanism == "none") != (self.privacy is None):
            raise ValueError(f"mechanism: {self.mechanism} {'takes no' if self.privacy else 'needs'} `privacy`")
        if self.privacy and self.privacy.group > self.batch_size:
            raise ValueError("privacy: group is at most batch_size")
        plain = self.privacy is not None and self.privacy.group == 1 and self.privacy.noise_decay == 1
        if self.mechanism == "dpsgd" and not plain:
            raise ValueError("mechanism: dpsgd takes no group and no noise_decay; edpsgd does")
        if self.mechanism == "edpsgd" and plain:
            raise ValueError("mechanism: edpsgd needs a group of 2 or more, or a noise_decay below 1")
        return self
