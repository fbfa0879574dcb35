"""``relay.nn``: the layers that a GLM is built of."""

from __future__ import annotations

from typing import Any

from tvm import relax

from tvm_vacc.relay import elsewhere
from tvm_vacc.relay.explain import value
from tvm_vacc.relay.infer import shape_of
from tvm_vacc.relay.op.matmul import matmul as matmul


def dense(
    data: relax.Expr, weight: relax.Expr, units: int | None = None, out_dtype: str = ""
) -> relax.Expr:
    """``data @ weight.T``.

    Args:
        data: ``[..., in]``.
        weight: ``[units, in]``.
        units: not needed: the shape of `weight` says it.
        out_dtype: of the result; that of `data` where it is empty.
    """
    return matmul(data, weight, units, out_dtype, transpose_b=True)


def batch_matmul(
    tensor_a: relax.Expr,
    tensor_b: relax.Expr,
    out_dtype: str = "",
    transpose_a: bool = False,
    transpose_b: bool = True,
) -> relax.Expr:
    """``a @ b.T`` of ``[batch, rows, inner]`` and ``[batch, columns, inner]``.

    The second operand is transposed unless `transpose_b` is false: ``[batch, inner, columns]``.
    """
    return matmul(tensor_a, tensor_b, None, out_dtype, transpose_a, transpose_b)


def bias_add(data: relax.Expr, bias: relax.Expr, axis: int = 1) -> relax.Expr:
    """`data` plus `bias` ``[size of the axis]`` along `axis`."""
    dims = shape_of(data)
    following = len(dims) - 1 - axis % len(dims)
    if following:
        bias = relax.op.reshape(bias, [*shape_of(bias), *[1] * following])
    return value(relax.op.add(data, bias))


def softmax(data: relax.Expr, axis: int = -1) -> relax.Expr:
    """Softmax along `axis`."""
    return value(relax.op.nn.softmax(data, axis))


def log_softmax(data: relax.Expr, axis: int = -1) -> relax.Expr:
    """The logarithm of softmax along `axis`."""
    return value(relax.op.nn.log_softmax(data, axis))


def relu(data: relax.Expr) -> relax.Expr:
    """``max(x, 0)``."""
    return value(relax.op.nn.relu(data))


def layer_norm(
    data: relax.Expr,
    gamma: relax.Expr,
    beta: relax.Expr,
    axis: int = -1,
    epsilon: float = 1e-5,
    center: bool = True,
    scale: bool = True,
) -> relax.Expr:
    """Layer normalisation along `axis` (Ba et al. 2016).

    Args:
        data: a tensor.
        gamma: ``[size of the axis]``: the factor, where `scale` is true.
        beta: ``[size of the axis]``: the offset, where `center` is true.
        axis: the axis.
        epsilon: added to the variance.
        center: whether `beta` is added.
        scale: whether it is multiplied by `gamma`.
    """
    return value(relax.op.nn.layer_norm(data, gamma, beta, [axis], epsilon, center, scale))


def batch_flatten(data: relax.Expr) -> relax.Expr:
    """``[batch, ...]`` as ``[batch, rest]``."""
    first, *rest = shape_of(data)
    width = 1
    for dim in rest:
        width = width * dim
    return value(relax.op.reshape(data, [first, width]))


def dropout(data: relax.Expr, rate: float = 0.5) -> relax.Expr:
    """`data` itself: nothing is dropped in inference."""
    return data


def __getattr__(name: str) -> Any:
    raise elsewhere.missing("relay.nn", name, "nn")
