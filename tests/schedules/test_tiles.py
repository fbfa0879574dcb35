"""Whatever a kernel chooses, a linear's results are the same, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import tvm

from schedules.isa import AMX, AVX2, AVX512_BF16, AVX512_VNNI, NEON, PORTABLE, Isa, isa_of
from schedules.linear_float import pack_linear_weight
from schedules.linear_int4 import pack_linear_int4
from schedules.linear_int8 import pack_linear_int8
from schedules.linears import kernel_of
from schedules.tiles import (
    AmxTiles,
    ByteTiles,
    FloatTiles,
    IntegerTiles,
    Linear,
    Tiles,
    alternatives,
    default_tiles,
    read_tiles,
)
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tvm_vacc.runtime.tensors import to_numpy, to_tvm

NATIVE = HOST_TARGETS["native"]
TOKENS = (1, 2, 9, 33, 150)
IN, OUT, GROUP = 1504, 353, 32

FLOAT16, BFLOAT16, FP32 = (
    Linear("float16", IN - 5, OUT),
    Linear("bfloat16", IN - 5, OUT),
    Linear("bfloat16", IN - 5, OUT, products="fp32"),
)
W8A16, W8A8, CODES = (
    Linear("w8a16", IN - 5, OUT),
    Linear("w8a8", IN - 5, OUT),
    Linear("w8a8", IN - 5, OUT, takes="uint8"),
)
W4A16 = Linear("w4a16", IN, OUT, group_size=GROUP)


def is_here(isa: Isa) -> bool:
    here = isa_of(NATIVE)
    flags = ("dots_bf16", "dots_bytes", "tiles")
    return here.lanes >= isa.lanes and all(getattr(here, f) >= getattr(isa, f) for f in flags)


def on(linear: Linear, isa: Isa) -> object:
    marks = [] if is_here(isa) else [pytest.mark.skip(reason=f"this CPU has no {isa.name}")]
    return pytest.param(linear, isa, marks=marks, id=f"{linear} {isa.name}")


FAMILIES = [
    on(FLOAT16, isa_of(NATIVE)),
    on(BFLOAT16, AVX512_BF16),
    on(BFLOAT16, AMX),
    on(W8A8, AVX512_VNNI),
    on(W8A16, AMX),
    on(W4A16, isa_of(NATIVE)),
]
OTHERS = [on(FP32, isa_of(NATIVE)), on(CODES, isa_of(NATIVE)), on(W8A8, AVX2), on(W4A16, AVX2)]


def results(linear: Linear, isa: Isa, tiles: Tiles) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (linear.out_features, linear.in_features)
    if linear.weights.startswith("w"):
        x: np.ndarray = rng.standard_normal((TOKENS[-1], shape[1]), np.float32)
        bits = 4 if linear == W4A16 else 8
        codes = rng.integers(-(1 << bits - 1), 1 << bits - 1, shape).astype(np.int8)
        if bits == 4:
            scales = rng.uniform(0.1, 1, (shape[0], shape[1] // GROUP)).astype(np.float32)
            weights = [*pack_linear_int4(codes, scales, GROUP)]
        else:
            weights = [pack_linear_int8(codes), rng.uniform(0.1, 1, shape[0]).astype(np.float32)]
        if linear.takes != "float":
            x = rng.integers(0, 256, x.shape).astype(linear.takes)
            sums = codes.sum(1, dtype=np.int32)
            weights += [np.ones(1, np.float32), np.full(1, 7, np.int32), sums]
    else:
        x = rng.standard_normal((TOKENS[-1], shape[1]), np.float32)
        weights = [pack_linear_weight(rng.standard_normal(shape, np.float32), linear.weights)]
    run = build_kernel(kernel_of(linear, isa, bias_dtype=None, tiles=tiles), NATIVE)
    tensors = [to_tvm(weight) for weight in weights]
    found = []
    for tokens in TOKENS:
        out = tvm.runtime.empty((tokens, shape[0]), "float32")
        run(to_tvm(x[:tokens]), *tensors, out)
        found.append(to_numpy(out).copy())
    return found


def check(linear: Linear, isa: Isa, choices: Iterator[dict[str, int]]) -> None:
    expected = results(linear, isa, default_tiles(linear, isa))
    assert np.abs(expected[0]).max() > 1
    for chosen in choices:
        found = results(linear, isa, read_tiles(chosen, linear, isa))
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=str(chosen))


@pytest.mark.parametrize(("linear", "isa"), FAMILIES)
def test_results_do_not_depend_on_the_choices(linear: Linear, isa: Isa) -> None:
    others = {name: values[1] for name, values in alternatives(linear, isa).items()}
    assert len(others) >= 3
    check(linear, isa, iter([others]))


@pytest.mark.slow
@pytest.mark.parametrize(("linear", "isa"), [*FAMILIES, *OTHERS])
def test_results_do_not_depend_on_any_choice(linear: Linear, isa: Isa) -> None:
    may_be = alternatives(linear, isa)
    single = [{name: value} for name, values in may_be.items() for value in values[1:]]
    least, most = ({name: pick(values) for name, values in may_be.items()} for pick in (min, max))
    check(linear, isa, iter([*single, least, most]))


@pytest.mark.parametrize(
    ("linear", "isa", "kind"),
    [
        (BFLOAT16, AMX, AmxTiles),
        (replace(BFLOAT16, in_features=30), AMX, FloatTiles),
        (FP32, AMX, FloatTiles),
        (FLOAT16, AMX, FloatTiles),
        (BFLOAT16, NEON, FloatTiles),
        (W8A16, AMX, ByteTiles),
        (replace(CODES, in_features=63), AMX, IntegerTiles),
        (W8A8, PORTABLE, IntegerTiles),
        (W4A16, AMX, IntegerTiles),
    ],
    ids=str,
)
def test_each_kernel_has_choices_of_its_kind(linear: Linear, isa: Isa, kind: type) -> None:
    default = default_tiles(linear, isa)
    assert type(default) is kind
    for name, values in alternatives(linear, isa).items():
        assert values[0] == getattr(default, name)
        assert len(set(values)) == len(values) > 1
    assert read_tiles({}, linear, isa) == default


def test_chunks_that_cut_alike_are_one_choice() -> None:
    short = alternatives(Linear("bfloat16", 40, 64), AVX512_BF16)
    assert "chunk_bytes" not in short
    long = alternatives(Linear("bfloat16", 8192, 64), AVX512_BF16)["chunk_bytes"]
    assert long == (1 << 17, 1 << 14, 1 << 15, 1 << 16, 1 << 18, 1 << 19, 1 << 20)


@pytest.mark.parametrize(("isa", "rows"), [(AVX512_VNNI, {12, 4, 6, 8, 16}), (AVX2, {12, 4, 6, 8})])
def test_a_tile_has_no_more_rows_than_registers_hold(isa: Isa, rows: set[int]) -> None:
    assert set(alternatives(W8A8, isa)["rows"]) == rows
    assert set(alternatives(W4A16, isa)["rows"]) == rows


@pytest.mark.parametrize("chosen", [{"rows": 5}, {"panel_rows": 64}, {"no": 1}])
def test_what_no_kernel_has_is_refused(chosen: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no kernel of linear w8a8 1499->353 has"):
        read_tiles(chosen, W8A8, AVX512_VNNI)


def test_linears_are_named_by_what_tells_them_apart() -> None:
    assert [str(linear) for linear in (BFLOAT16, FP32, CODES, W4A16)] == [
        "linear bfloat16 1499->353",
        "linear bfloat16 by fp32 1499->353",
        "linear w8a8 of uint8 1499->353",
        "linear w4a16 in groups of 32 1504->353",
    ]
