"""Registers a Python-defined operator with Relax: types, legalisation, printing and reparsing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import ir, relax
from tvm.ir import _ffi_api as _ir_ffi

InferType = Callable[[relax.Call], Any]
Legalize = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]

OPERATOR_ATTRIBUTE = "tvm_vacc.operator"
"""On a kernel: the short name of the operator that it computes."""


@dataclass(frozen=True)
class VaccOp:
    """One ``relax.tvm_vacc.*`` operator.

    Attributes:
        name: full name, ``relax.tvm_vacc.rms_norm``.
        op: the TVM operator object, what `Call.op` is compared with.
        reference: the same function in NumPy, the oracle of the kernel's tests.
    """

    name: str
    op: ir.Op
    reference: Callable[..., Any]

    def __call__(self, *args: relax.Expr, **attrs: Any) -> relax.Call:
        """Build a call; its type is inferred when a BlockBuilder emits or normalises it."""
        return relax.Call(self.op, list(args), attrs=ir.make_node("ir.DictAttrs", **attrs))


def register_op(
    short_name: str,
    *,
    describe: str,
    infer_type: InferType,
    legalize: Legalize | None,
    reference: Callable[..., Any],
) -> VaccOp:
    """Register ``relax.tvm_vacc.<short_name>`` and return it.

    Without `legalize`, a pass of the pipeline has to see to it. All our operators are pure for
    Relax: the in-place ones return what they have written, and their readers consume that result.
    """
    name = f"relax.tvm_vacc.{short_name}"
    _ir_ffi.RegisterOp(name, describe)
    op = ir.Op.get(name)
    op.set_attr("FInferType", lambda call, _builder: infer_type(call))
    if legalize is not None:
        op.set_attr("FLegalize", legalize)
    op.set_attr("FPurity", True)
    return VaccOp(name, op, reference)


def tensor_type(expr: relax.Expr, rank: int | None = None) -> relax.TensorType:
    """Return the tensor type of `expr`, whose shape must be known (symbolic dims are).

    Raises:
        TypeError: `expr` is no tensor, has no shape, or not `rank` dimensions.
    """
    ty = expr.ty
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        raise TypeError(f"expected a tensor of known shape, got {ty}")
    if rank is not None and len(ty.shape) != rank:
        raise TypeError(f"expected {rank} dimensions, got {ty}")
    return ty


def flatten_leading(builder: relax.BlockBuilder, expr: relax.Expr, keep: int) -> relax.Expr:
    """Reshape ``[..., *last]`` to ``[tokens, *last]``, `keep` dimensions being kept at the end.

    Kernels are written for one leading dimension of tokens; a tensor which has that form already
    is returned as it is, so that a flattened graph pays nothing.
    """
    shape = list(tensor_type(expr).shape)
    split = len(shape) - keep
    if split == 1:
        return expr
    tokens: Any = 1
    for dim in shape[:split]:
        tokens = tokens * dim
    return builder.emit(relax.op.reshape(expr, [tokens, *shape[split:]]))


def restore_leading(
    builder: relax.BlockBuilder, flat: relax.Expr, ty: relax.TensorType
) -> relax.Expr:
    """Undo `flatten_leading`: give `flat` the shape of `ty`."""
    if len(tensor_type(flat).shape) == len(ty.shape):
        return flat
    return relax.op.reshape(builder.emit(flat), list(ty.shape))


def call_kernel(
    builder: relax.BlockBuilder,
    kernel: tvm.tirx.PrimFunc,
    name: str,
    args: Sequence[relax.Expr],
    out_ty: Any,
) -> relax.Expr:
    """Add `kernel` to the module under `name` and emit a `call_tir` of it.

    The block builder merges structurally equal kernels, so that a shape is compiled once however
    many layers use it.
    """
    gvar = add_kernel(builder, kernel, name)
    return builder.emit(relax.call_tir(gvar, list(args), out_ty=out_ty))


def add_kernel(builder: relax.BlockBuilder, kernel: tvm.tirx.PrimFunc, name: str) -> ir.GlobalVar:
    """Add `kernel` to the module, with a note of the operator `name` that it computes."""
    return builder.add_func(kernel.with_attr(OPERATOR_ATTRIBUTE, name), name)


def as_float32(array: np.ndarray) -> np.ndarray:
    """Return `array` in fp32: what every reference computes in."""
    return np.asarray(array).astype(np.float32)
