"""The kernel that a call of a packed linear legalises to."""

from __future__ import annotations

from tvm import relax

from schedules.isa import current_isa
from schedules.linears import kernel_of
from schedules.tiles import Linear, read_tiles
from tvm_vacc.ops._chosen_tiles import chosen_tiles
from tvm_vacc.ops._registry import call_kernel, flatten_leading, restore_leading, tensor_type


def call_linear(
    builder: relax.BlockBuilder,
    call: relax.Call,
    linear: Linear,
    name: str,
    bias: relax.Expr | None,
) -> relax.Expr:
    """Emit the call of a linear's kernel on tokens, and return its result as `call` has it.

    Args:
        builder: takes the kernel.
        call: of the operator.
        linear: what its kernel is made for.
        name: of the kernel.
        bias: which of the call's arguments that is.

    Raises:
        ValueError: the attribute ``tiles`` names what no such kernel has.
    """
    isa = current_isa()
    kernel = kernel_of(
        linear,
        isa,
        bias_dtype=None if bias is None else str(bias.ty.dtype),
        tiles=read_tiles(chosen_tiles(call), linear, isa),
    )
    x = flatten_leading(builder, call.args[0], keep=1)
    tokens, _ = tensor_type(x, rank=2).shape
    out_ty = relax.TensorType([tokens, linear.out_features], "float32")
    out = call_kernel(builder, kernel, name, [x, *call.args[1:]], out_ty)
    return restore_leading(builder, out, call.ty)
