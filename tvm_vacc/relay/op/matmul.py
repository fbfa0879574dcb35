"""Products of matrices."""

from __future__ import annotations

from tvm import relax

from tvm_vacc.relay.explain import value
from tvm_vacc.relay.infer import shape_of


def matmul(
    tensor_a: relax.Expr,
    tensor_b: relax.Expr,
    units: int | None = None,
    out_dtype: str = "",
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> relax.Expr:
    """``a @ b`` of ``[..., rows, inner]`` and ``[..., inner, columns]``.

    Args:
        tensor_a: the first; ``[..., inner, rows]`` where it is to be transposed.
        tensor_b: the second; ``[..., columns, inner]`` where it is to be transposed.
        units: not needed: the shape of `tensor_b` says it.
        out_dtype: of the result; that of the operands where it is empty.
        transpose_a: swap the last two axes of `tensor_a` first.
        transpose_b: the same of `tensor_b`.
    """
    a = _swapped(tensor_a) if transpose_a else tensor_a
    b = _swapped(tensor_b) if transpose_b else tensor_b
    return value(relax.op.matmul(a, b, out_dtype or None))


def _swapped(tensor: relax.Expr) -> relax.Expr:
    rank = len(shape_of(tensor))
    return relax.op.permute_dims(tensor, [*range(rank - 2), rank - 1, rank - 2])
