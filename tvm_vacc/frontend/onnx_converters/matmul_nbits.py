"""com.microsoft MatMulNBits: a product with a matrix of 2, 4 or 8 bits in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.ops.dequantize import dequantize


class MatMulNBits(OnnxOpConverter):
    """Becomes a product with `tvm_vacc.dequantize` of the codes ``[out, in]``.

    Codes that `with_codes_unpacked` has taken over come as signed numbers; others are unpacked in
    the graph. With g_idx ``[in]`` each input says which block's scale and zero point are its own
    (ONNX Runtime's CPU kernel overlooks zero points of codes there).
    """

    @classmethod
    def _impl_v1(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, codes, scale, zero_point, order, bias = (inputs[index] for index in range(6))
        bits, block = attr.get("bits", 4), attr["block_size"]
        shape = (attr["N"], attr["K"])
        blocks = -(-shape[1] // block)
        if len(codes.ty.shape) == 3:
            codes = _unpacked(bb, codes, bits, shape)
            if zero_point is None:
                zero_point = relax.const(np.full((shape[0], blocks), 1 << (bits - 1), np.uint8))
            elif str(zero_point.ty.dtype) == "uint8":
                zero_point = _unpacked(bb, zero_point, bits, (shape[0], blocks))
        floats = _float32(bb, relax.op.reshape(scale, [shape[0], blocks]))
        integers = zero_point is not None and str(zero_point.ty.dtype) == "uint8"
        if zero_point is not None and not integers:
            zero_point = _float32(bb, relax.op.reshape(zero_point, [shape[0], blocks]))
        if order is not None:
            order_K = bb.emit(relax.op.strided_slice(order, [0], [0], [shape[1]]))
            floats = bb.emit(relax.op.take(floats, order_K, axis=1))
            if zero_point is not None:
                zero_point = bb.emit(relax.op.take(zero_point, order_K, axis=1))
            block = 1
        operands = [codes, floats, *([zero_point] if integers else [])]
        attrs = {"axis": 1, "block_size": block, "dtype": "float32", "bits": bits}
        weight = bb.emit(dequantize(*operands, **attrs))
        if zero_point is not None and not integers:
            shift = bb.emit(relax.op.multiply(zero_point, floats))
            wide = bb.emit(relax.op.repeat(shift, block, 1))
            wide = bb.emit(relax.op.strided_slice(wide, [1], [0], [shape[1]]))
            weight = bb.emit(relax.op.subtract(weight, wide))
        transposed = bb.emit(relax.op.permute_dims(weight, [1, 0]))
        product = relax.op.matmul(_float32(bb, x), transposed)
        if bias is not None:
            product = relax.op.add(bb.emit(product), _float32(bb, bias))
        return relax.op.astype(bb.emit(product), str(x.ty.dtype))


def _float32(bb: relax.BlockBuilder, expr: relax.Expr) -> relax.Var:
    return bb.emit(relax.op.astype(bb.normalize(expr), "float32"))


def _unpacked(
    bb: relax.BlockBuilder, packed: relax.Expr, bits: int, shape: tuple[int, int]
) -> relax.Var:
    """Emit the numbers of `bits` bits in the bytes of `packed`, lowest first, a uint8 each.

    Rows of `shape` begin at whole bytes; what fills up their last byte or block is cut off.
    """
    rows, columns = shape
    mask = relax.const(np.uint8((1 << bits) - 1))
    parts = []
    for shift in range(0, 8, bits):
        low = bb.emit(relax.op.right_shift(packed, relax.const(np.uint8(shift))))
        parts.append(bb.emit(relax.op.bitwise_and(low, mask)))
    numbers = bb.emit(relax.op.stack(parts, -1))
    numbers = bb.emit(relax.op.reshape(numbers, [rows, -1]))
    return bb.emit(relax.op.strided_slice(numbers, [1], [0], [columns]))
