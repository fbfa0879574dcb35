"""Attention in AMX tiles: where it is generated."""

from __future__ import annotations

import re

import pytest
import tvm

from schedules.gqa_attention import gqa_attention_kernel
from schedules.isa import isa_of


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
