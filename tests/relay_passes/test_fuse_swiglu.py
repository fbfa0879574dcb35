from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes.canonicalize import Canonicalize
from relay_passes.fuse_swiglu import FuseSwiglu
from tests.relay_passes.build import dim, module
from tests.relay_passes.running import apply, run_main

WIDTH = 12


def gated(
    form: str = "split", cuts: tuple[int, ...] = (0, WIDTH, 2 * WIDTH), swapped: bool = False
) -> ir.IRModule:
    def body(emit: Any, x: relax.Var, y: relax.Var) -> relax.Expr:
        if form == "split":
            parts = emit(relax.op.split(x, 2, axis=-1))
            gate, up = emit(relax.TupleGetItem(parts, 0)), emit(relax.TupleGetItem(parts, 1))
        else:
            source = y if form == "two sources" else x
            gate = emit(relax.op.strided_slice(x, [2], [cuts[0]], [cuts[1]]))
            up = emit(relax.op.strided_slice(source, [2], [cuts[1]], [cuts[2]]))
        if swapped:
            gate, up = up, gate
        activation = relax.op.sigmoid if form == "sigmoid only" else relax.op.nn.silu
        if form == "gelu":
            activation = relax.op.nn.gelu
        if form == "spelt out":
            return relax.op.multiply(
                emit(relax.op.multiply(emit(relax.op.sigmoid(gate)), gate)), up
            )
        return relax.op.multiply(up, emit(activation(gate)))

    shape = [dim("batch"), dim("seq"), 2 * WIDTH]
    return module({"x": shape, "y": shape}, {}, body)


@pytest.mark.parametrize("form", ["split", "slices", "spelt out"])
def test_fuses_and_keeps_the_value(form: str) -> None:
    result = FuseSwiglu().apply(apply(Canonicalize(), gated(form)))
    assert result.matches == 1
    x = np.random.default_rng(0).standard_normal((2, 3, 2 * WIDTH), dtype=np.float32)
    gate, up = x[..., :WIDTH], x[..., WIDTH:]
    want = gate / (1 + np.exp(-gate)) * up
    np.testing.assert_allclose(run_main(result.module, {"x": x, "y": x})[0], want, atol=1e-5)


@pytest.mark.parametrize(
    "near_miss",
    [
        {"form": "split", "swapped": True},
        {"form": "slices", "swapped": True},
        {"form": "slices", "cuts": (0, 8, 2 * WIDTH - 8)},
        {"form": "two sources"},
        {"form": "sigmoid only"},
        {"form": "gelu"},
    ],
    ids=str,
)
def test_near_misses_stay(near_miss: dict[str, Any]) -> None:
    assert FuseSwiglu().apply(apply(Canonicalize(), gated(**near_miss))).matches == 0
