"""The bf16 linear in AMX tiles against the order of sums that Intel's manual gives TDPBF16PS."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.isa import amx, isa_of
from schedules.linear_float import linear_kernel, pack_linear_weight
from schedules.tiles import AmxTiles
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel

needs_amx = pytest.mark.skipif(
    not isa_of(HOST_TARGETS["native"]).tiles, reason="this CPU has no AMX, or it is masked"
)

TILES = AmxTiles()

TILE_VALUES = 2 * amx.STEPS
"""Values of `in` in a tile."""


def manual(x_NI: np.ndarray, weight_OI: np.ndarray) -> np.ndarray:
    """Return the sums, each rounding where the instruction rounds (normal numbers only).

    A fused multiply-add of bf16 and fp32 is one of fp64 rounded to fp32: both are exact before.
    """
    fill = ((0, 0), (0, -x_NI.shape[1] % TILE_VALUES))
    x, weight = (
        np.pad(values, fill).astype(ml_dtypes.bfloat16).astype(np.float64)
        for values in (x_NI, weight_OI)
    )
    total = np.zeros((len(x), len(weight)), np.float32)
    for start in range(0, x.shape[1], TILE_VALUES):
        halves = np.zeros((2, *total.shape), np.float32)
        for k in range(TILE_VALUES):
            product = np.outer(x[:, start + k], weight[:, start + k])
            halves[k % 2] = (halves[k % 2] + product).astype(np.float32)
        total += halves[0] + halves[1]
    return total


@needs_amx
@pytest.mark.parametrize(
    ("in_features", "out_features"),
    [
        (32, 96),
        (33, 31),
        (640, TILES.group_columns + 33),
        (TILE_VALUES * TILES.chunk_tiles + 67, TILES.group_columns + 33),
    ],
)
def test_sums_as_the_manual_says_whatever_the_tokens(in_features: int, out_features: int) -> None:
    rng = np.random.default_rng(in_features)
    weight = rng.standard_normal((out_features, in_features), np.float32)
    bias = rng.standard_normal(out_features, np.float32)
    x = rng.standard_normal((TILES.panel_rows + 49, in_features), np.float32)
    target = HOST_TARGETS["native"]
    kernel = linear_kernel(
        in_features, out_features, "bfloat16", isa_of(target), bias_dtype="float32"
    )
    run = build_kernel(kernel, target)
    packed = pack_linear_weight(weight, "bfloat16")
    stored = tvm.runtime.empty(packed.shape, "bfloat16")
    stored.copyfrom(packed)

    def call(rows: np.ndarray) -> np.ndarray:
        out = tvm.runtime.empty((len(rows), out_features), "float32")
        run(tvm.runtime.tensor(rows), stored, tvm.runtime.tensor(bias), out)
        return out.numpy()

    whole = call(x)
    np.testing.assert_array_equal(whole[-20:], manual(x[-20:], weight) + bias)
    np.testing.assert_array_equal(call(x[: TILES.panel_rows + 1]), whole[: TILES.panel_rows + 1])
    for first, end in ((0, 1), (3, 5), (7, 23), (20, 37), (30, 62), (250, 300)):
        np.testing.assert_array_equal(call(x[first:end]), whole[first:end])


def test_compiles_to_tiles_on_any_machine() -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": "sapphirerapids"})
    kernel = linear_kernel(4096, 64, "bfloat16", isa_of(target), bias_dtype=None)
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    asm = tvm.compile(module, target=target).mod.inspect_source("asm")
    assert re.search(r"tdpbf16ps\s.*%tmm", asm)
    assert not re.search(r"vdpbf16ps", asm)
