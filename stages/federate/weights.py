"""The trained parameters of a model as one vector: what the server sends, clients train, and their sum is made of."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor, nn


class Layout:
    """Where each trained parameter of a model stands in a vector of `size` values.

    Args:
        model: Its parameters that require a gradient, in their order.

    Attributes:
        names: Of the parameters.
        size: P, values in all.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.names = list(trained)
        self._shapes = [parameter.shape for parameter in trained.values()]
        self._sizes = [prod(shape) for shape in self._shapes]
        self.size = sum(self._sizes)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return a view (..., *shape) of each parameter within `flat` (..., P)."""
        parts = flat.split(self._sizes, dim=-1)
        return [part.view(*flat.shape[:-1], *shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the model's trained parameters."""
        return [model.get_parameter(name) for name in self.names]

    def read(self, model: nn.Module) -> Tensor:
        """Return a (P,) copy of the model's trained parameters."""
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters(model)])

    def write(self, model: nn.Module, flat: Tensor) -> None:
        """Copy (P,) values into the model's trained parameters."""
        with torch.no_grad():
            for parameter, view in zip(self.parameters(model), self.views(flat), strict=True):
                parameter.copy_(view)

    @contextmanager
    def lent(self, model: nn.Module, flat: Tensor) -> Iterator[list[nn.Parameter]]:
        """Have the model's trained parameters, which are returned, live in `flat` (P,) for a while."""
        parameters = self.parameters(model)
        own = [parameter.data for parameter in parameters]
        for parameter, view in zip(parameters, self.views(flat), strict=True):
            parameter.data = view
        try:
            yield parameters
        finally:
            for parameter, data in zip(parameters, own, strict=True):
                parameter.data = data
