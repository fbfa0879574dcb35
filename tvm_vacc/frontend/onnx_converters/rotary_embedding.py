"""ONNX RotaryEmbedding (opset 23), decomposed into slices, products and a concatenation."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter


class RotaryEmbedding(OnnxOpConverter):
    """Rotates pairs: ``(2r, 2r+1)`` where `interleaved`, ``(r, r + rotary_dim/2)`` where not.

    Inputs: X ``[batch, heads, seq, head_dim]`` or ``[batch, seq, heads*head_dim]``; cos and sin
    ``[batch, seq, rotary_dim/2]``, or ``[positions, rotary_dim/2]`` with position_ids
    ``[batch, seq]``.
    """

    @classmethod
    def _impl_v23(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, cos, sin, position_ids = inputs[0], inputs[1], inputs[2], inputs[3]
        flat_shape = None
        if len(x.ty.shape) == 3:
            flat_shape = list(x.ty.shape)
            heads = int(attr["num_heads"])
            batch, seq, hidden = flat_shape
            x_BSHD = bb.emit(relax.op.reshape(x, [batch, seq, heads, int(hidden) // heads]))
            x = bb.emit(relax.op.permute_dims(x_BSHD, [0, 2, 1, 3]))
        batch, heads, seq, head_dim = x.ty.shape
        rotary_dim = int(attr.get("rotary_embedding_dim", 0)) or int(head_dim)

        def per_head(table: relax.Expr) -> relax.Expr:
            if position_ids is not None:
                table = bb.emit(relax.op.take(table, position_ids, axis=0))
            return bb.emit(relax.op.expand_dims(table, 1))

        def part(source: relax.Expr, begin: int, end: int, step: int = 1) -> relax.Expr:
            return bb.emit(relax.op.strided_slice(source, [3], [begin], [end], [step]))

        cos_B1SR, sin_B1SR = per_head(cos), per_head(sin)
        rotated = part(x, 0, rotary_dim) if rotary_dim < int(head_dim) else x
        if attr.get("interleaved", 0):
            first, second = part(rotated, 0, rotary_dim, 2), part(rotated, 1, rotary_dim, 2)
        else:
            half = rotary_dim // 2
            first, second = part(rotated, 0, half), part(rotated, half, rotary_dim)

        def product(a: relax.Expr, b: relax.Expr) -> relax.Expr:
            return bb.emit(relax.op.multiply(a, b))

        real = bb.emit(relax.op.subtract(product(first, cos_B1SR), product(second, sin_B1SR)))
        imaginary = bb.emit(relax.op.add(product(first, sin_B1SR), product(second, cos_B1SR)))
        if attr.get("interleaved", 0):
            pairs = [bb.emit(relax.op.expand_dims(part_, -1)) for part_ in (real, imaginary)]
            stacked = bb.emit(relax.op.concat(pairs, axis=-1))
            turned = bb.emit(relax.op.reshape(stacked, [batch, heads, seq, rotary_dim]))
        else:
            turned = bb.emit(relax.op.concat([real, imaginary], axis=-1))
        if rotary_dim < int(head_dim):
            rest = part(x, rotary_dim, int(head_dim))
            turned = bb.emit(relax.op.concat([turned, rest], axis=-1))
        if flat_shape is None:
            return turned
        turned_BSHD = bb.emit(relax.op.permute_dims(turned, [0, 2, 1, 3]))
        return relax.op.reshape(turned_BSHD, flat_shape)
