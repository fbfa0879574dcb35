"""Whatever attention chooses, its results are the same, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from schedules.attention_tiles import (
    Attention,
    attention_alternatives,
    attention_kernel,
    default_attention_tiles,
    read_attention_tiles,
)
from schedules.gqa_shape import SEGMENT, AmxAttentionTiles, AttentionTiles, VectorAttentionTiles
from schedules.isa import AMX, AVX2, AVX512_BF16, NEON, PORTABLE, Isa, isa_of
from tests.schedules.attention_calls import SCALE, Case, make_case
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tvm_vacc.runtime.tensors import to_numpy, to_tvm

BATCHES = [
    [(1, 2 * SEGMENT + 3)],
    [(1, 130), (3, 70), (70, 300)],
    [(2, 40)] * 9,
]
ATTENTIONS = [
    Attention("bfloat16", 16, 1, 64),
    Attention("int8", 16, 1, 64),
    Attention("bfloat16", 6, 2, 48),
    Attention("float16", 4, 1, 32, products="fp32"),
]


def cases(attention: Attention) -> list[Case]:
    shape = (attention.heads, attention.kv_heads, attention.head_dim, attention.cache)
    return [make_case(shape, batch) for batch in BATCHES]


def results(
    attention: Attention, target: str, chosen: dict[str, int], given: Iterable[Case]
) -> list[np.ndarray]:
    isa = isa_of(HOST_TARGETS[target])
    tiles = read_attention_tiles(chosen, attention, isa)
    run = build_kernel(attention_kernel(attention, SCALE, isa, tiles), HOST_TARGETS[target])
    found = []
    for case in given:
        out = to_tvm(np.full_like(case.query, np.nan))
        run(*map(to_tvm, case.arrays), out)
        found.append(to_numpy(out))
    return found


def check(attention: Attention, target: str, choices: Iterable[dict[str, int]]) -> None:
    given = cases(attention)
    expected = results(attention, target, {}, given)
    for chosen in choices:
        found = results(attention, target, chosen, given)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=str(chosen))


@pytest.mark.parametrize("attention", ATTENTIONS[:3], ids=str)
def test_results_do_not_depend_on_the_choices(attention: Attention) -> None:
    may_be = attention_alternatives(attention, isa_of(HOST_TARGETS["native"]))
    assert len(may_be) >= 3
    check(attention, "native", [{name: min(values) for name, values in may_be.items()}])


@pytest.mark.slow
@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_results_do_not_depend_on_any_choice(attention: Attention, target: str) -> None:
    may_be = attention_alternatives(attention, isa_of(HOST_TARGETS[target]))
    single = [{name: value} for name, values in may_be.items() for value in values[1:]]
    check(attention, target, [*single, {name: max(values) for name, values in may_be.items()}])


@pytest.mark.parametrize(
    ("attention", "isa", "default"),
    [
        (Attention("bfloat16", 32, 2, 128), AMX, AmxAttentionTiles()),
        (Attention("int8", 32, 2, 128), AMX, AmxAttentionTiles()),
        (Attention("int8", 4, 2, 128), AMX, VectorAttentionTiles()),
        (Attention("bfloat16", 32, 2, 128, "fp32"), AMX, VectorAttentionTiles()),
        (Attention("bfloat16", 32, 2, 128), AVX512_BF16, VectorAttentionTiles()),
        (Attention("int8", 32, 2, 128), AVX2, VectorAttentionTiles()),
        (Attention("float32", 8, 1, 16), NEON, VectorAttentionTiles()),
        (Attention("float32", 8, 1, 16), PORTABLE, VectorAttentionTiles()),
    ],
    ids=str,
)
def test_each_kernel_has_choices_of_its_kind(
    attention: Attention, isa: Isa, default: AttentionTiles
) -> None:
    assert default_attention_tiles(attention, isa) == default
    for name, values in attention_alternatives(attention, isa).items():
        assert values[0] == getattr(default, name)
        assert len(set(values)) == len(values) > 1
    assert read_attention_tiles({}, attention, isa) == default


def test_choices_that_cut_alike_are_one() -> None:
    wide = attention_alternatives(Attention("float32", 128, 1, 16), PORTABLE)
    assert wide["tile_rows"] == (64, 256, 512, 1024)
    narrow = attention_alternatives(Attention("float32", 3, 1, 16), PORTABLE)
    assert "rows" not in narrow or set(narrow["rows"]) <= {4, 2}


@pytest.mark.parametrize("chosen", [{"tile_rows": 5}, {"rows": 4}, {"no": 1}])
def test_what_no_kernel_has_is_refused(chosen: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no kernel of attention int8 32/2 x 128 has"):
        read_attention_tiles(chosen, Attention("int8", 32, 2, 128), AMX)


def test_attentions_are_named_by_what_tells_them_apart() -> None:
    assert [str(attention) for attention in (ATTENTIONS[1], ATTENTIONS[3])] == [
        "attention int8 16/1 x 64",
        "attention float16 by fp32 4/1 x 32",
    ]
