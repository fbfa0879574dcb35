"""Attention in AMX tiles: where it is generated, and groups of rows that take turns."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tvm

from schedules.gqa_attention import gqa_attention_kernel
from schedules.isa import isa_of
from tests.schedules.attention_calls import assert_close, make_case, run, sub_batch


@pytest.mark.parametrize(
    ("shape", "instructions"),
    [
        ((32, 2, 128, "float16"), ["tdpbf16ps"]),
        ((6, 1, 64, "bfloat16"), ["tdpbf16ps"]),
        ((32, 2, 128, "int8"), ["tdpbssd", "tdpbusd"]),
        ((2, 2, 64, "bfloat16"), []),
        ((4, 1, 64, "int8"), []),
        ((32, 2, 48, "bfloat16"), []),
        ((32, 2, 96, "int8"), []),
        ((32, 2, 128, "float32"), []),
    ],
    ids=str,
)
def test_compiles_to_tiles_on_any_machine(
    shape: tuple[int, int, int, str], instructions: list[str]
) -> None:
    heads, kv_heads, head_dim, dtype = shape
    target = tvm.target.Target({"kind": "llvm", "mcpu": "sapphirerapids"})
    kernel = gqa_attention_kernel(heads, kv_heads, head_dim, dtype, 1.0, isa_of(target))
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    asm = tvm.compile(module, target=target).mod.inspect_source("asm")
    assert set(re.findall(r"\b(tdp\w+)\s.*%tmm", asm)) == set(instructions)


@pytest.mark.parametrize(
    "shape",
    [
        (16, 1, 128, "bfloat16"),
        (6, 1, 64, "float16"),
        (40, 1, 32, "bfloat16"),
        (16, 1, 128, "int8"),
        (12, 1, 64, "int8"),
    ],
    ids=str,
)
def test_groups_of_rows_in_turns_are_as_one_token_alone(
    shape: tuple[int, int, int, str],
) -> None:
    """Tiles of none, one, two and many groups that see whole blocks, with rows that are left."""
    batch = [(count, 515 + count) for count in (1, 2, 4, 7, 8, 13, 45)]
    case = make_case(shape, batch)
    together = run(shape, case)
    assert_close(together, case, shape[3], "native")
    for row, (count, _) in enumerate(batch):
        start = case.query_start[row]
        for token in {0, count // 2, count - 1}:
            alone = run(shape, sub_batch(case, row, token, token + 1))
            np.testing.assert_array_equal(alone[0], together[start + token])
