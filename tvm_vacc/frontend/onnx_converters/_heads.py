"""Heads of attention: apart, together, and shared by groups of queries."""

from __future__ import annotations

from tvm import relax


def split_heads(bb: relax.BlockBuilder, x_BSF: relax.Expr, heads: int) -> relax.Expr:
    """Return ``[batch, seq, heads*head_dim]`` as ``[batch, heads, seq, head_dim]``."""
    batch, seq, width = x_BSF.ty.shape
    x_BSHD = bb.emit(relax.op.reshape(x_BSF, [batch, seq, heads, int(width) // heads]))
    return bb.emit(relax.op.permute_dims(x_BSHD, [0, 2, 1, 3]))


def merge_heads(bb: relax.BlockBuilder, x_BHSD: relax.Expr) -> relax.Expr:
    """Return ``[batch, heads, seq, head_dim]`` as ``[batch, seq, heads*head_dim]``."""
    batch, heads, seq, head_dim = x_BHSD.ty.shape
    x_BSHD = bb.emit(relax.op.permute_dims(x_BHSD, [0, 2, 1, 3]))
    return bb.emit(relax.op.reshape(x_BSHD, [batch, seq, int(heads) * int(head_dim)]))


def repeat_heads(bb: relax.BlockBuilder, x_BKTD: relax.Expr, groups: int) -> relax.Expr:
    """Repeat every KV head `groups` times, neighbours first: ``[h0, h0, h1, h1]``."""
    if groups == 1:
        return x_BKTD
    batch, kv_heads, total, head_dim = x_BKTD.ty.shape
    x_BK1TD = bb.emit(relax.op.expand_dims(x_BKTD, 2))
    x_BKGTD = bb.emit(relax.op.broadcast_to(x_BK1TD, [batch, kv_heads, groups, total, head_dim]))
    return bb.emit(relax.op.reshape(x_BKGTD, [batch, kv_heads * groups, total, head_dim]))
