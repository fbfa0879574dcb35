"""The text of one small kernel, as it stands in a golden file."""

from __future__ import annotations

from pathlib import Path

import pytest
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.isa import PORTABLE
from schedules.rms_norm import rms_norm_kernel
from tvm_vacc.codegen_c.kernel import print_kernel
from tvm_vacc.codegen_c.lower import lower_kernels
from tvm_vacc.codegen_c.vectors import VectorFunctions
from tvm_vacc.errors import TargetError

GOLDEN = Path(__file__).parent / "golden"


def printed(kernel: tirx.PrimFunc) -> str:
    [lowered] = lower_kernels(tvm.IRModule({"kernel": kernel})).functions.values()
    return print_kernel("vacc_kernel", lowered, VectorFunctions()).text


def test_rms_norm_is_printed_as_in_the_golden_file() -> None:
    text = printed(rms_norm_kernel(37, 1e-5, "bfloat16", PORTABLE))
    assert text == (GOLDEN / "rms_norm.c").read_text("utf-8")


def test_an_intrinsic_of_llvm_is_refused_by_name() -> None:
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("kernel")
        out = T.match_buffer(T.arg("out", T.handle()), (4,), "float32")
        value = T.call_llvm_pure_intrin("float32", "llvm.sqrt.f32", T.float32(2))
        T.buffer_store(out, value, [0])
    with pytest.raises(TargetError, match="vacc_kernel: a call of"):
        printed(builder.get())
