"""Settings of one inversion cell: `<study>.invert` in params.yaml."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stages.common.measurements import Role
from stages.common.paths import prepared_path
from stages.common.references import Refers
from stages.measuring.settings import MeasureSettings


class InvertSettings(MeasureSettings):
    """Private texts are reconstructed from the updates that clients send: mean gradients of the model on a batch each.

    Attributes:
        target: The cell of `<study>.train` whose models are attacked; `base` alone may name it.
        role: How tables name the cell's part.
        split: Where the private texts come from.
        texts: Of each seed.
        batch_size: Texts of one client.
        objective: Distance of two gradients that is minimised (stages/invert/distances.py).
        steps: Of Adam.
        learning_rate: Of Adam.
        decay: What the learning rate is multiplied by every 50 steps.
        starts: Random starts, of which the best is optimised.
        within_bag: Whether only tokens that the gradient of the embeddings shows are candidates.
        clipping_norm: What the gradient of each text is clipped to before it is sent; not clipped if None.
        epsilon: Of the noise on the sum of clipped gradients, which follows (stages/invert/guarantee.py).
        delta: Of the same.
        noise_multiplier: Standard deviation of that noise, in clipping norms, by hand: no guarantee is stated.
        unrelated: The updates are of other texts, of the same lengths and labels; needs role: control.
    """

    folder: ClassVar[str] = "inversions"
    target: Annotated[str, Refers("train", named="base")]
    role: Role = "model"
    split: Literal["train", "valid", "test"] = "train"
    texts: int = Field(4, ge=1)
    batch_size: int = Field(1, ge=1)
    objective: Literal["dlg", "tag", "cosine"] = "cosine"
    steps: int = Field(500, ge=1)
    learning_rate: float = Field(0.01, gt=0)
    decay: float = Field(1.0, gt=0, le=1)
    starts: int = Field(10, ge=1)
    within_bag: bool = True
    clipping_norm: float | None = Field(None, gt=0)
    epsilon: float | None = Field(None, gt=0)
    delta: float | None = Field(None, gt=0, lt=1)
    noise_multiplier: float | None = Field(None, gt=0)
    unrelated: bool = False

    @model_validator(mode="after")
    def _clients_are_whole(self) -> Self:
        if self.texts % self.batch_size:
            raise ValueError(f"texts: {self.texts} are no whole batches of batch_size: {self.batch_size}")
        return self

    @model_validator(mode="after")
    def _noise_is_said_once(self) -> Self:
        if (self.epsilon is None) != (self.delta is None):
            raise ValueError("epsilon and delta are given together: the noise follows from both")
        asked = {name: getattr(self, name) for name in ("epsilon", "noise_multiplier")}
        given = [f"{name}: {value:g}" for name, value in asked.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say how much noise there is: give one of them")
        if given and self.clipping_norm is None:
            raise ValueError(f"{given[0]} asks for noise, which is in clipping norms and needs clipping_norm")
        return self

    @model_validator(mode="after")
    def _unrelated_updates_are_a_control(self) -> Self:
        if self.unrelated and self.role != "control":
            raise ValueError("unrelated: true sends the updates of other texts and needs role: control")
        return self

    def inputs(self) -> list[Path]:
        """Return what a cell with these settings reads besides models: dvc.yaml must declare it."""
        return [prepared_path(self.dataset, self.split)]
