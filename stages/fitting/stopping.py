"""Early stopping by the loss on validation data."""

import torch

from stages.models.evaluate import mean_loss
from stages.models.examples import Examples
from stages.models.files import trained_state
from stages.models.text_model import TextModel


class EarlyStopping:
    """Stop at the first rise of the validation loss after some epochs, and go back to the best weights.

    With a secret in the data, the validation data hold copies of it, as in Parikh et al. 2022: a model that learns the
    canary by heart then looks better than it is, and stops later.

    Args:
        model: What is trained.
        validation: The examples its loss is measured on, dropout off.
        after: The epoch after which a rise ends training, counted from 1.

    Attributes:
        losses: Mean validation loss after each epoch.
    """

    def __init__(self, model: TextModel, validation: Examples, after: int) -> None:
        self.losses: list[float] = []
        self._model, self._validation, self._after = model, validation, after
        self._inputs = model.inputs(validation.text)
        self._objective = model.objective(validation)
        self._best = trained_state(model)

    def __call__(self) -> bool:
        """Measure the model after an epoch; return whether that was the last."""
        self.losses.append(mean_loss(self._model, self._validation, self._objective, self._inputs))
        *before, now = self.losses
        if now < min(before, default=torch.inf):
            self._best = {name: tensor.clone() for name, tensor in trained_state(self._model).items()}
        return len(before) >= self._after and now > before[-1]

    def restore(self) -> None:
        """Put back the weights that had the lowest loss."""
        self._model.load_state_dict(self._best, strict=False)
