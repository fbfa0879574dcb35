"""Rotary position embedding on interleaved pairs (Su et al., 2021, RoFormer; GLM's layout)."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.parallel import for_each

CHUNK = 16
"""Elements (8 pairs) rotated at a time: whole vectors of any instruction set."""


def rope_kernel(heads: int, head_dim: int, pairs: int) -> tirx.PrimFunc:
    """Kernel ``(x [tokens, heads, head_dim], cos [tokens, pairs], sin, out as x)``, all fp32.

    The first ``2 * pairs`` of `head_dim` are rotated, the rest is copied.
    """
    rotated = 2 * pairs
    whole = rotated // CHUNK * CHUNK

    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("rope")
        T.func_attr({"tirx.noalias": True})
        handles = [T.arg(name, T.handle()) for name in ("x", "cos", "sin", "out")]
        tokens = dimension("tokens")
        source = match_buffer(handles[0], (tokens, heads, head_dim), "float32")
        cosine = match_buffer(handles[1], (tokens, pairs), "float32")
        sine = match_buffer(handles[2], (tokens, pairs), "float32")
        result = match_buffer(handles[3], (tokens, heads, head_dim), "float32")

        def one_token(token: Any) -> None:
            with T.serial(0, whole // CHUNK) as chunk:
                angles = T.ramp(chunk * (CHUNK // 2), 1, CHUNK // 2)
                cos = T.bind(_interleave(cosine[token, angles], cosine[token, angles]))
                sin = T.bind(_interleave(T.float32(0) - sine[token, angles], sine[token, angles]))
                with T.serial(0, heads) as head:
                    lanes = T.ramp(chunk * CHUNK, 1, CHUNK)
                    x = T.bind(source[token, head, lanes])
                    T.buffer_store(result, x * cos + _swap_pairs(x) * sin, [token, head, lanes])
            with T.serial(0, heads) as head:
                with T.serial(whole // 2, pairs) as r:
                    even = T.bind(source[token, head, 2 * r])
                    odd = T.bind(source[token, head, 2 * r + 1])
                    cos, sin = T.bind(cosine[token, r]), T.bind(sine[token, r])
                    T.buffer_store(result, even * cos - odd * sin, [token, head, 2 * r])
                    T.buffer_store(result, odd * cos + even * sin, [token, head, 2 * r + 1])
                with T.serial(rotated, head_dim) as d:
                    T.buffer_store(result, source[token, head, d], [token, head, d])

        for_each(tokens, heads * head_dim * 8, one_token)
    return builder.get()


def _interleave(even: tirx.Expr, odd: tirx.Expr) -> tirx.Expr:
    """Return ``even[0], odd[0], even[1], odd[1], ...``."""
    half = CHUNK // 2
    return T.Shuffle([even, odd], [lane // 2 + half * (lane % 2) for lane in range(CHUNK)])


def _swap_pairs(x: tirx.Expr) -> tirx.Expr:
    """Return ``x[1], x[0], x[3], x[2], ...``."""
    return T.Shuffle([x], [lane ^ 1 for lane in range(CHUNK)])
