"""What a layer leaves behind in one pass: enough to know the norm of each example's gradient without forming it.

A parameter's gradient of one example is a sum over the layer's uses of it. A use keeps what the sum is made of: for a
matrix, the inputs and the output gradients of each position. From these come the squared norm of every example's
gradient and, once the factors are known, the sum of the scaled gradients: one matrix product per weight, as in an
ordinary step. This is book-keeping (Bu et al. 2023, "Differentially Private Optimization on Large Model at Small
Cost", section 3), with the ghost norm of Li et al. 2022 ("Large Language Models Can Be Strong Differentially Private
Learners", section 4) where it is the cheaper of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


def in_full(values: Tensor) -> Tensor:
    """Return values of half precision in float32, in which norms and sums are taken; others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


# Values of per-example gradients that are formed at once: 64 MiB in float32.
FORMED = 2**24


class Use(Protocol):
    """One use of a parameter in a pass."""

    def squared_norms(self) -> Tensor:
        """Return (n,) squared norms of each example's gradient."""

    def scaled_sum(self, factors: Tensor) -> Tensor:
        """Return the sum over examples of factor x gradient: the values of the parameter's, in its order."""

    def of(self, rows: Tensor) -> "Use":
        """Return the use by some of the examples."""

    def grouped(self, size: int) -> "Use":
        """Return the use by groups of examples, each as one whose positions are theirs."""


@dataclass
class Matrix:
    """A matrix that maps `inputs` to outputs: the gradient of an example is the sum of outer products.

    Args:
        inputs: (n, positions, d).
        outputs: (n, positions, p) gradients of the outputs.
        transposed: Whether the parameter is (d, p), as GPT-2 keeps it, not (p, d).
    """

    inputs: Tensor
    outputs: Tensor
    transposed: bool = False

    def squared_norms(self) -> Tensor:
        inputs, outputs = in_full(self.inputs), in_full(self.outputs)
        positions, d, p = inputs.shape[1], inputs.shape[2], outputs.shape[2]
        if positions == 1:
            return inputs.square().sum((1, 2)) * outputs.square().sum((1, 2))
        if _inner_products_are_cheaper(positions, d, p):
            return _between(inputs).mul_(_between(outputs)).sum((1, 2))
        pieces = zip(inputs.split(size := max(1, FORMED // (d * p))), outputs.split(size), strict=True)
        return torch.cat([torch.bmm(b.transpose(1, 2), a).square_().sum((1, 2)) for a, b in pieces])

    def scaled_sum(self, factors: Tensor) -> Tensor:
        # On the narrower side. Not in place: both may be those of another use as well.
        inputs, outputs, by_example = in_full(self.inputs), in_full(self.outputs), factors[:, None, None]
        if inputs.shape[2] < outputs.shape[2]:
            inputs = inputs * by_example
        else:
            outputs = outputs * by_example
        inputs, outputs = inputs.flatten(0, 1), outputs.flatten(0, 1)
        return inputs.T @ outputs if self.transposed else outputs.T @ inputs

    def of(self, rows: Tensor) -> "Matrix":
        return Matrix(self.inputs[rows], self.outputs[rows], self.transposed)

    def grouped(self, size: int) -> "Matrix":
        return Matrix(_grouped(self.inputs, size), _grouped(self.outputs, size), self.transposed)


@dataclass(frozen=True)
class Places:
    """Where packed rows stand among examples and their positions.

    Args:
        examples: (rows,) example of each row.
        positions: (rows,) its position.
        shape: Numbers of examples and of positions.
    """

    examples: Tensor
    positions: Tensor
    shape: tuple[int, int]

    def padded(self, values: Tensor) -> Tensor:
        """Return (rows, d) values as (n, positions, d), with zeros where there is none."""
        full = values.new_zeros(self.shape[0] * self.shape[1], values.shape[1])
        full.index_copy_(0, self.examples * self.shape[1] + self.positions, values)
        return full.view(*self.shape, -1)

    def summed(self, values: Tensor) -> Tensor:
        """Return (n, d) sums over the positions of each example."""
        return values.new_zeros(self.shape[0], values.shape[1]).index_add_(0, self.examples, values)

    def grouped(self, size: int) -> "Places":
        """Return the places in groups of examples."""
        n, length = self.shape
        positions = self.examples % size * length + self.positions
        return Places(self.examples // size, positions, (n // size, size * length))


@dataclass(frozen=True)
class Packed:
    """Values of texts of different lengths, without padding, which several uses may share: (rows, d)."""

    values: Tensor
    places: Places

    @cached_property
    def padded(self) -> Tensor:
        """(n, positions, d), in float32 or more."""
        return self.places.padded(in_full(self.values))

    @cached_property
    def between(self) -> Tensor:
        """(n, positions, positions) inner products of each example's positions."""
        return _between(self.padded)


@dataclass
class PackedMatrix:
    """A matrix that maps packed inputs, (rows, d), to packed outputs, of which the gradients are here: (rows, p)."""

    inputs: Packed
    outputs: Packed

    def squared_norms(self) -> Tensor:
        d, p = self.inputs.values.shape[1], self.outputs.values.shape[1]
        if _inner_products_are_cheaper(self.inputs.places.shape[1], d, p):
            return (self.inputs.between * self.outputs.between).sum((1, 2))
        return self.padded().squared_norms()

    def scaled_sum(self, factors: Tensor) -> Tensor:
        by_row = factors[self.inputs.places.examples, None]
        inputs, outputs = in_full(self.inputs.values), in_full(self.outputs.values)
        # Scaled on the narrower side.
        return outputs.T @ (inputs * by_row) if inputs.shape[1] < outputs.shape[1] else (outputs * by_row).T @ inputs

    def of(self, rows: Tensor) -> Matrix:
        return self.padded().of(rows)

    def grouped(self, size: int) -> "PackedMatrix":
        places = self.inputs.places.grouped(size)
        return PackedMatrix(Packed(self.inputs.values, places), Packed(self.outputs.values, places))

    def padded(self) -> Matrix:
        """Return the use with padding."""
        return Matrix(self.inputs.padded, self.outputs.padded)


@dataclass
class Rows:
    """A table whose rows were looked up: the gradient of an example is spread over the rows that it used.

    Args:
        ids: (n, positions) rows.
        outputs: (n, positions, d) gradients of what was looked up; zero where the row takes none.
        rows: Number of rows of the table.
    """

    ids: Tensor
    outputs: Tensor
    rows: int

    def squared_norms(self) -> Tensor:
        # An example's positions that share a row add up before they are squared.
        outputs = in_full(self.outputs)
        if self.rows * outputs.shape[2] < outputs.shape[1] ** 2:
            # Few rows, as of characters: forming the gradients takes less than comparing all positions.
            size = max(1, FORMED // (self.rows * outputs.shape[2]))
            pieces = zip(self.ids.split(size), outputs.split(size), strict=True)
            return torch.cat([self._formed(ids, values).square_().sum((1, 2)) for ids, values in pieces])
        same = self.ids[:, :, None] == self.ids[:, None, :]
        between = torch.bmm(outputs, outputs.transpose(1, 2))
        return between.mul_(same).sum((1, 2))

    def _formed(self, ids: Tensor, outputs: Tensor) -> Tensor:
        """Return the gradients of some examples: (some, rows, d)."""
        of_example = self.rows * torch.arange(len(ids), device=ids.device)[:, None]
        found = outputs.new_zeros(len(ids) * self.rows, outputs.shape[2])
        found.index_add_(0, (of_example + ids).flatten(), outputs.flatten(0, 1))
        return found.view(len(ids), self.rows, -1)

    def scaled_sum(self, factors: Tensor) -> Tensor:
        scaled = (in_full(self.outputs) * factors[:, None, None]).flatten(0, 1)
        return scaled.new_zeros((self.rows, scaled.shape[1])).index_add_(0, self.ids.flatten(), scaled)

    def of(self, rows: Tensor) -> "Rows":
        return Rows(self.ids[rows], self.outputs[rows], self.rows)

    def grouped(self, size: int) -> "Rows":
        return Rows(_grouped(self.ids, size), _grouped(self.outputs, size), self.rows)


@dataclass
class Formed:
    """Gradients small enough to form for each example, such as those of a bias: (n, *shape of the parameter)."""

    gradients: Tensor

    def squared_norms(self) -> Tensor:
        return self.gradients.flatten(1).square().sum(1)

    def scaled_sum(self, factors: Tensor) -> Tensor:
        total: Tensor = torch.tensordot(factors, self.gradients, dims=1)
        return total

    def of(self, rows: Tensor) -> "Formed":
        return Formed(self.gradients[rows])

    def grouped(self, size: int) -> "Formed":
        return Formed(self.gradients.unflatten(0, (-1, size)).sum(1))


def merged(uses: Sequence[Use]) -> list[Use]:
    """Return the uses of one parameter with those of one kind made one, whose norm counts what they share."""
    if len(uses) == 1:
        return list(uses)
    found: list[Use] = []
    uses = [use.padded() if isinstance(use, PackedMatrix) else use for use in uses]
    matrices = [use for use in uses if isinstance(use, Matrix)]
    for way in (False, True):
        if same := [use for use in matrices if use.transposed is way]:
            inputs, outputs = ([getattr(use, name) for use in same] for name in ("inputs", "outputs"))
            found.append(Matrix(_joined(inputs), _joined(outputs), way))
    if tables := [use for use in uses if isinstance(use, Rows)]:
        found.append(Rows(_joined([t.ids for t in tables]), _joined([t.outputs for t in tables]), tables[0].rows))
    if formed := [use.gradients for use in uses if isinstance(use, Formed)]:
        found.append(Formed(formed[0] if len(formed) == 1 else torch.stack(formed).sum(0)))
    return found


def inner_products(one: Use, other: Use) -> Tensor:
    """Return (n,) inner products of each example's gradients by two uses of one parameter.

    Only of a table that is also a matrix, as tied embeddings are; TypeError for any other two kinds.
    """
    if isinstance(one, Matrix) and isinstance(other, Rows) and not one.transposed:
        # <sum_t g_t a_t', sum_s e(id_s) h_s'> = sum_ts g_t[id_s] (a_t . h_s)
        ids = other.ids[:, None, :].expand(-1, one.outputs.shape[1], -1)
        weights = torch.gather(in_full(one.outputs), 2, ids)
        return torch.bmm(in_full(one.inputs), in_full(other.outputs).transpose(1, 2)).mul_(weights).sum((1, 2))
    if isinstance(one, Rows) and isinstance(other, Matrix):
        return inner_products(other, one)
    raise TypeError(f"{type(one).__name__} and {type(other).__name__} of one parameter")


def _inner_products_are_cheaper(positions: int, d: int, p: int) -> bool:
    """Whether a norm by inner products of positions takes fewer multiplications than one of a (p, d) gradient."""
    return positions * (d + p) < d * p


def _between(values: Tensor) -> Tensor:
    return torch.bmm(values, values.transpose(1, 2))


def _grouped(values: Tensor, size: int) -> Tensor:
    return values.reshape(len(values) // size, size * values.shape[1], *values.shape[2:])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
