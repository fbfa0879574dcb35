"""ONNX RotaryEmbedding (opset 23) and com.microsoft's, in slices, products and a concatenation."""

from __future__ import annotations

from typing import Any, TypeAlias

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._heads import merge_heads, split_heads

_Bb: TypeAlias = relax.BlockBuilder


class RotaryEmbedding(OnnxOpConverter):
    """Rotates pairs: ``(2r, 2r+1)`` where `interleaved`, ``(r, r + rotary_dim/2)`` where not.

    Inputs: X ``[batch, heads, seq, head_dim]`` or ``[batch, seq, heads*head_dim]``; cos and sin
    ``[batch, seq, rotary_dim/2]``, or ``[positions, rotary_dim/2]`` with position_ids
    ``[batch, seq]``.
    """

    @classmethod
    def _impl_v23(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x, cos, sin, position_ids = inputs[0], inputs[1], inputs[2], inputs[3]
        return _embed(bb, x, cos, sin, position_ids, attr)


class MicrosoftRotaryEmbedding(OnnxOpConverter):
    """The same with the inputs in another order, of com.microsoft.

    Inputs: X; position_ids ``[batch, seq]``, or ``[1]``: the first position; cos and sin
    ``[positions, rotary_dim/2]``. Source: ONNX Runtime, docs/ContribOperators.md.

    Raises:
        NotImplementedError: heads of a flat X are not told though only a part of each is rotated.
    """

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x, position_ids, cos, sin = inputs[0], inputs[1], inputs[2], inputs[3]
        flat = len(x.ty.shape) == 3
        if flat and not int(attr.get("num_heads", 0)):
            if int(attr.get("rotary_embedding_dim", 0)):
                raise NotImplementedError("RotaryEmbedding of parts of heads without num_heads")
            width = 2 * int(cos.ty.shape[1])
            attr = {**attr, "num_heads": int(x.ty.shape[2]) // width}
        if len(position_ids.ty.shape) == 1:
            batch, seq = x.ty.shape[0], x.ty.shape[1 if flat else 2]
            step_S = bb.emit(relax.op.arange(0, seq, 1, "int64"))
            position_S = bb.emit(relax.op.add(position_ids, step_S))
            position_ids = bb.emit(relax.op.broadcast_to(position_S, [batch, seq]))
        return _embed(bb, x, cos, sin, position_ids, attr)


def _embed(
    bb: _Bb,
    x: relax.Expr,
    cos: relax.Expr,
    sin: relax.Expr,
    position_ids: relax.Expr | None,
    attr: dict[str, Any],
) -> relax.Expr:
    flat = len(x.ty.shape) == 3
    if flat:
        x = split_heads(bb, x, int(attr["num_heads"]))
    rotary_dim = int(attr.get("rotary_embedding_dim", 0)) or int(x.ty.shape[3])
    cos_BSR, sin_BSR = (
        table if position_ids is None else bb.emit(relax.op.take(table, position_ids, axis=0))
        for table in (cos, sin)
    )
    turned = rotate(bb, x, cos_BSR, sin_BSR, rotary_dim, bool(attr.get("interleaved", 0)))
    return merge_heads(bb, turned) if flat else turned


def rotate(
    bb: _Bb,
    x_BHSD: relax.Expr,
    cos_BSR: relax.Expr,
    sin_BSR: relax.Expr,
    rotary_dim: int,
    interleaved: bool,
) -> relax.Expr:
    """Return `x` with the first `rotary_dim` of each head rotated."""
    batch, heads, seq, head_dim = x_BHSD.ty.shape
    cos_B1SR = bb.emit(relax.op.expand_dims(cos_BSR, 1))
    sin_B1SR = bb.emit(relax.op.expand_dims(sin_BSR, 1))

    def part(source: relax.Expr, begin: int, end: int, step: int = 1) -> relax.Expr:
        return bb.emit(relax.op.strided_slice(source, [3], [begin], [end], [step]))

    def product(a: relax.Expr, b: relax.Expr) -> relax.Expr:
        return bb.emit(relax.op.multiply(a, b))

    rotated = part(x_BHSD, 0, rotary_dim) if rotary_dim < int(head_dim) else x_BHSD
    if interleaved:
        first, second = part(rotated, 0, rotary_dim, 2), part(rotated, 1, rotary_dim, 2)
    else:
        half = rotary_dim // 2
        first, second = part(rotated, 0, half), part(rotated, half, rotary_dim)
    real = bb.emit(relax.op.subtract(product(first, cos_B1SR), product(second, sin_B1SR)))
    imaginary = bb.emit(relax.op.add(product(first, sin_B1SR), product(second, cos_B1SR)))
    if interleaved:
        pairs = [bb.emit(relax.op.expand_dims(part_, -1)) for part_ in (real, imaginary)]
        stacked = bb.emit(relax.op.concat(pairs, axis=-1))
        turned = bb.emit(relax.op.reshape(stacked, [batch, heads, seq, rotary_dim]))
    else:
        turned = bb.emit(relax.op.concat([real, imaginary], axis=-1))
    if rotary_dim < int(head_dim):
        rest = part(x_BHSD, rotary_dim, int(head_dim))
        turned = bb.emit(relax.op.concat([turned, rest], axis=-1))
    return turned
