"""Settings of one training cell: `<study>.train` in params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.common.settings import Settings
from stages.fitting.settings import CellSettings


class PrivacySettings(Settings):
    """The guarantee asked for; the noise follows from it, the sampler and the number of steps."""

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    clipping_norm: float = Field(gt=0)


class TrainSettings(CellSettings):
    """Central training: `batch_size` is the expected one for DP-SGD, whose batches are Poisson samples."""

    mechanism: Literal["none", "dpsgd"]
    epochs: int = Field(ge=1)
    privacy: PrivacySettings | None = None

    @model_validator(mode="after")
    def _privacy_fits_the_mechanism(self) -> Self:
        if (self.mechanism == "none") != (self.privacy is None):
            raise ValueError("mechanism: dpsgd needs `privacy` with epsilon, delta, clipping_norm; none takes none")
        return self
