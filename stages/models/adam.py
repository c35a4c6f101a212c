"""torch's Adam without torch.optim.Optimizer, which imports the compiler: two seconds in every process that trains."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma and Ba 2015) with the defaults of torch.optim.Adam, all parameters in one fused step.

    Args:
        parameters: Changed in place by `step`; one without a gradient stays as it is.
        learning_rate: Its step size.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.parameters, self.learning_rate = list(parameters), learning_rate
        self._means, self._squares = ([torch.zeros_like(each) for each in self.parameters] for _ in range(2))
        self._steps = [torch.zeros((), device=each.device) for each in self.parameters]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients."""
        state = zip(self.parameters, self._means, self._squares, self._steps, strict=True)
        moved = [(each[0], _laid_out_as(*each[:2]), *each[1:]) for each in state if each[0].grad is not None]
        if not moved:
            return
        parameters, gradients, means, squares, steps = (list(part) for part in zip(*moved, strict=True))
        adam(
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def _laid_out_as(parameter: Tensor, means: Tensor) -> Tensor | None:
    """Return the gradient with the strides of the means: the fused step reads both as if they had the same."""
    gradient = parameter.grad
    if gradient is None or gradient.stride() == means.stride():
        return gradient
    return torch.empty_like(means).copy_(gradient)
