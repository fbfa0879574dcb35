from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes.canonicalize import Canonicalize
from relay_passes.count_ops import count_ops
from relay_passes.fuse_rope import FuseRope
from tests.relay_passes.build import dim, module
from tests.relay_passes.running import apply, run_main

HEADS, WIDTH, PAIRS = 3, 16, 4


def rotation(
    spelling: str = "hugging face",
    rotary: int = 2 * PAIRS,
    sign: str = "first",
    pairs: str = "neighbours",
    rest_from: int | None = None,
    repeat: str = "each",
    sources: str = "same",
) -> ir.IRModule:
    """RoPE spelt out, ``x [batch, HEADS, seq, WIDTH]``, with one detail changed."""
    batch, seq = dim("batch"), dim("seq")
    half = rotary // 2

    def body(emit: Any, x: relax.Var, y: relax.Var, cos: relax.Var, sin: relax.Var) -> relax.Expr:
        def cut(source: relax.Expr, begin: int, end: int, step: int = 1) -> relax.Expr:
            return emit(relax.op.strided_slice(source, [3], [begin], [end], [step]))

        turned = cut(x, 0, rotary) if rotary < WIDTH else x
        if pairs == "neighbours":
            even, odd = cut(turned, 0, rotary, 2), cut(turned, 1, rotary, 2)
        elif pairs == "swapped":
            even, odd = cut(turned, 1, rotary, 2), cut(turned, 0, rotary, 2)
        else:
            even, odd = cut(turned, 0, half), cut(turned, half, rotary)
        if sources == "two":
            odd = cut(y, 1, rotary, 2)

        def interleave(a: relax.Expr, b: relax.Expr) -> relax.Expr:
            stacked = emit(relax.op.stack([a, b], axis=4))
            return emit(relax.op.reshape(stacked, [batch, HEADS, seq, rotary]))

        def wide(table: relax.Expr) -> relax.Expr:
            table = emit(relax.op.expand_dims(table, 1))
            if repeat == "all":
                return emit(relax.op.concat([table, table], axis=3))
            table = emit(relax.op.expand_dims(table, 4))
            table = emit(relax.op.broadcast_to(table, [batch, 1, seq, half, 2]))
            return emit(relax.op.reshape(table, [batch, 1, seq, rotary]))

        def times(a: relax.Expr, b: relax.Expr) -> relax.Expr:
            return emit(relax.op.multiply(a, b))

        if spelling == "hugging face":
            minus = emit(relax.op.negative(odd))
            swapped = interleave(minus, even) if sign == "first" else interleave(odd, even)
            out = emit(relax.op.add(times(turned, wide(cos)), times(swapped, wide(sin))))
        else:
            c, s = (emit(relax.op.expand_dims(table, 1)) for table in (cos, sin))
            combine = relax.op.subtract if sign == "first" else relax.op.add
            real = emit(combine(times(even, c), times(s, odd)))
            imaginary = emit(relax.op.add(times(odd, c), times(even, s)))
            out = interleave(real, imaginary)
        if rotary == WIDTH:
            return out
        start = rotary if rest_from is None else rest_from
        return relax.op.concat([out, cut(x, start, start + WIDTH - rotary)], axis=-1)

    x_shape, table = [batch, HEADS, seq, WIDTH], [batch, seq, half]
    return module({"x": x_shape, "y": x_shape, "cos": table, "sin": table}, {}, body)


def reference(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    rotary = 2 * cos.shape[-1]
    pairs = (x[..., 0:rotary:2] + 1j * x[..., 1:rotary:2]) * (cos + 1j * sin)[:, None]
    out = x.copy()
    out[..., 0:rotary:2], out[..., 1:rotary:2] = pairs.real, pairs.imag
    return out


@pytest.mark.parametrize("spelling", ["hugging face", "onnx"])
@pytest.mark.parametrize("rotary", [2 * PAIRS, WIDTH])
def test_fuses_and_keeps_the_value(spelling: str, rotary: int) -> None:
    result = FuseRope().apply(apply(Canonicalize(), rotation(spelling, rotary)))
    assert result.matches == 1
    assert count_ops(result.module) == {"rope": 1}
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, HEADS, 5, WIDTH), dtype=np.float32)
    cos, sin = rng.standard_normal((2, 2, 5, rotary // 2), dtype=np.float32)
    got = run_main(result.module, {"x": x, "y": x, "cos": cos, "sin": sin})[0]
    np.testing.assert_allclose(got, reference(x, cos, sin), atol=1e-5)


@pytest.mark.parametrize("spelling", ["hugging face", "onnx"])
@pytest.mark.parametrize(
    "near_miss",
    [{"sign": "none"}, {"pairs": "swapped"}, {"pairs": "halves"}, {"sources": "two"}],
    ids=str,
)
def test_near_misses_stay(spelling: str, near_miss: dict[str, Any]) -> None:
    canonical = apply(Canonicalize(), rotation(spelling, **near_miss))
    assert FuseRope().apply(canonical).matches == 0


def test_angles_of_halves_stay() -> None:
    canonical = apply(Canonicalize(), rotation(repeat="all"))
    assert FuseRope().apply(canonical).matches == 0


def test_a_rest_from_elsewhere_is_not_absorbed() -> None:
    """The rotation fuses, the concatenation stays: its second part is not what follows."""
    result = FuseRope().apply(apply(Canonicalize(), rotation(rest_from=2)))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, HEADS, 2, WIDTH), dtype=np.float32)
    cos, sin = rng.standard_normal((2, 1, 2, PAIRS), dtype=np.float32)
    got = run_main(result.module, {"x": x, "y": x, "cos": cos, "sin": sin})[0]
    want = np.concatenate([reference(x, cos, sin)[..., :8], x[..., 2:10]], axis=-1)
    np.testing.assert_allclose(got, want, atol=1e-5)
