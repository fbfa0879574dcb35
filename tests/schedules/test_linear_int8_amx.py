"""AMX against the kernel without it: sums are exact, so results are equal bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from schedules.amx_nest import ROWS
from schedules.isa import amx, isa_of
from schedules.linear_int8 import pack_linear_int8
from schedules.tiles import AmxTiles
from tests.schedules.kernel_harness import HOST_TARGETS
from tests.schedules.quantized_kernels import LARGEST_CODE, int8_kernel

pytestmark = pytest.mark.skipif(
    not isa_of(HOST_TARGETS["native"]).tiles, reason="this CPU has no AMX, or it is masked"
)

KINDS = tuple(LARGEST_CODE)
TILES = AmxTiles()
SEVERAL_CHUNKS = amx.ROW_BYTES * TILES.chunk_tiles + amx.ROW_BYTES + 5
SEVERAL_GROUPS = TILES.group_columns + 33
SEVERAL_CHUNKS_OF_FEW_ROWS = amx.ROW_BYTES * (2 * TILES.few_rows_chunk_tiles + 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("in_features", "out_features"),
    [(64, 1), (SEVERAL_CHUNKS_OF_FEW_ROWS, SEVERAL_GROUPS), (SEVERAL_CHUNKS, SEVERAL_GROUPS)],
)
def test_equals_the_kernel_without_tiles(in_features: int, out_features: int, kind: str) -> None:
    rng = np.random.default_rng(in_features)
    weight = pack_linear_int8(rng.integers(-128, 128, (out_features, in_features)).astype(np.int8))
    scale, bias = rng.standard_normal((2, out_features), np.float32)
    x = rng.standard_normal((TILES.panel_rows + ROWS + 1, in_features), np.float32)
    tiles, other = (
        int8_kernel(in_features, out_features, target, kind, "float32")
        for target in ("native", "vnni")
    )
    whole = other(x, weight, scale, bias)
    beside_panels = (TILES.panel_rows // 2 + 1, TILES.panel_rows + 1, len(x))
    for tokens in (*range(1, 18), 31, 32, 33, 48, 49, 70, *beside_panels):
        got = tiles(x[:tokens], weight, scale, bias)
        np.testing.assert_array_equal(got, whole[:tokens])


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_do_not_saturate(kind: str) -> None:
    """The longest sums of GLM-4-9B, all of one sign, exact but for the rounding to fp32."""
    in_features, largest = 13696, LARGEST_CODE[kind]
    alternating = np.where(np.arange(in_features) % 2, 127, -128)
    weight = np.stack([np.full(in_features, -128), np.full(in_features, 127), alternating])
    x = np.stack([np.full(in_features, largest), np.full(in_features, -largest)] * ROWS)
    sums = x.astype(np.int64) @ weight.T.astype(np.int64)
    got = int8_kernel(in_features, 3, "native", kind)(
        x.astype(np.float32), pack_linear_int8(weight.astype(np.int8)), np.ones(3, np.float32)
    )
    np.testing.assert_allclose(got, sums, rtol=2.0**-22)
