"""Other ways to the clipped sum, for studies that compare with them: a loop over examples, and Opacus.

They give what book-keeping gives (ClippedGradients), more slowly: the loop as the algorithm is written, Opacus by hooks
that form every example's gradient (Yousefpour et al. 2021) or by ghost clipping (Li et al. 2022). Opacus adds 1e-6 to
each norm before it divides.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from stages.common.errors import SettingError
from stages.privacy.bounds import Bound, checked, flat

Forward = Callable[[Tensor], Tensor]


class Loop:
    """One example, or group, after the other by torch's own autograd; see Clipping.

    Args:
        model: Its trained parameters.
        clipping_norm: Above 0; infinite, nothing is clipped.
        group: Examples whose mean gradient is clipped as one.
        bounds: See ClippedGradients.
    """

    def __init__(
        self, model: nn.Module, clipping_norm: float, group: int = 1, bounds: Sequence[Bound] | None = None
    ) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.clipping_norm, self.group = clipping_norm, group
        self._bounds = checked(flat(model) if bounds is None else bounds, self.parameters)

    def add_clipped_sum(self, forward: Forward, rows: Tensor) -> tuple[Tensor, Tensor]:
        losses, norms = [], []
        for unit in rows.split(self.group):
            found = forward(unit)
            gradients = torch.autograd.grad(found.mean(), self.parameters, materialize_grads=True)
            by_parameter = dict(zip(self.parameters, gradients, strict=True))
            parts = [[by_parameter[parameter] for parameter in bound.parameters] for bound in self._bounds]
            by_part = [_norm(part) for part in parts]
            norms.append(torch.stack(by_part).norm())
            losses.append(found.detach())
            # As with book-keeping, a gradient that is not finite adds nothing.
            finite = bool(norms[-1].isfinite())
            for bound, part, norm in zip(self._bounds, parts, by_part, strict=True):
                factor = min(1.0, self.clipping_norm * bound.share / max(float(norm), torch.finfo(norm.dtype).tiny))
                _add(bound.parameters, [factor * each if finite else torch.zeros_like(each) for each in part])
        return torch.cat(losses), torch.stack(norms)


class Opacus:
    """Opacus, clipping each example by one norm; see Clipping.

    Args:
        model: Of layers that Opacus knows: its own DPLSTM is not nn.LSTM.
        clipping_norm: Above 0; infinite, nothing is clipped.
        ghost: Whether norms are taken without forming the gradients, at the price of a second backward pass.

    Raises:
        SettingError: Opacus is not installed, or the model has a recurrent layer, or a chain of tags.
    """

    group = 1

    def __init__(self, model: nn.Module, clipping_norm: float, ghost: bool) -> None:
        name = "opacus_ghost" if ghost else "opacus_hooks"
        try:
            import opacus  # noqa: F401
        except ImportError:
            problem = f"{name} needs the package opacus, which is not installed"
            raise SettingError("privacy.clipping", problem, "pip install opacus==1.6.0, or use book_keeping") from None
        for module in model.modules():
            if isinstance(module, nn.RNNBase):
                kind = type(module).__name__
                problem = f"{name} cannot take gradients of nn.{kind}: Opacus knows its own DP{kind} only"
                raise SettingError("privacy.clipping", problem, "use book_keeping or loop, or another head")
            trained = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
            if trained and not signature(module.forward).parameters:
                problem = f"{name} cannot take gradients of {type(module).__name__}, which maps no input"
                raise SettingError("privacy.clipping", problem, "use book_keeping or loop, or tagger: independent")
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.clipping_norm = clipping_norm
        self._model, self._ghost = model, ghost

    def add_clipped_sum(self, forward: Forward, rows: Tensor) -> tuple[Tensor, Tensor]:
        before = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        # Opacus computes in train mode only, and warns of each first layer that its inputs take no gradient.
        with warnings.catch_warnings(), self._hooked() as (wrapped, optimiser):
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            losses = forward(rows)
            if self._ghost:
                norms = _run_twice(wrapped, optimiser, losses)
            else:
                losses.sum().backward()
                norms = torch.stack([each.flatten(1).norm(dim=1) for each in optimiser.grad_samples]).norm(dim=0)
                optimiser.clip_and_accumulate()
            sums = [getattr(each, "grad" if self._ghost else "summed_grad") for each in self.parameters]
        for parameter, gradient in zip(self.parameters, before, strict=True):
            parameter.grad = gradient
        _add(self.parameters, sums)
        return losses.detach(), norms.detach()

    @contextmanager
    def _hooked(self) -> Iterator[tuple[Any, Any]]:
        """Have Opacus' hooks in the model for one pass; its optimiser never steps."""
        from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping

        steps = {"noise_multiplier": 0.0, "max_grad_norm": self.clipping_norm, "expected_batch_size": 1}
        optimiser = torch.optim.SGD(self.parameters, lr=0.0)
        # Not strict: it would refuse the buffers of a frozen encoder.
        if self._ghost:
            wrapped: Any = GradSampleModuleFastGradientClipping(
                self._model, loss_reduction="sum", strict=False, max_grad_norm=self.clipping_norm
            )
            private: Any = DPOptimizerFastGradientClipping(optimiser, loss_reduction="sum", **steps)
        else:
            wrapped = GradSampleModule(self._model, loss_reduction="sum", strict=False)
            private = DPOptimizer(optimiser, loss_reduction="sum", **steps)
        try:
            yield wrapped, private
        finally:
            wrapped.to_standard_module()


def _run_twice(wrapped: Any, optimiser: Any, losses: Tensor) -> Tensor:
    """Run backward for the norms and again for the clipped sum, which is in `.grad` then; return the norms."""
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    DPTensorFastGradientClipping(wrapped, optimiser, losses, loss_reduction="sum").backward()
    return wrapped.per_sample_gradient_norms  # type: ignore[no-any-return]


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return norm


def _add(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
