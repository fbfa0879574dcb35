"""Only what is scheduled in blocks has its memory shrunk; results are those of TVM's pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.ir.instrument import pass_instrument
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from tvm_vacc.codegen.kernel_pipeline import NAME


@pass_instrument
class _Compacted:
    """Notes which functions the pass sees."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def run_before_pass(self, module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM."""
        if info.name == "s_tir.CompactBufferAllocation":
            self.names |= {gvar.name_hint for gvar in module.get_global_vars()}


def _of_blocks() -> tirx.PrimFunc:
    x = te.placeholder((7,), name="x")
    made = te.create_prim_func([x, te.compute((7,), lambda i: x[i] + 1.0, name="y")])
    return made.with_attr("global_symbol", "blocks")


def _of_loops() -> tirx.PrimFunc:
    with IRBuilder() as builder, T.prim_func():
        T.func_name("loops")
        x = T.match_buffer(T.arg("x", T.handle()), (7,), "float32")
        out = T.match_buffer(T.arg("out", T.handle()), (7,), "float32")
        with T.serial(0, 7) as i:
            kept = T.alloc_buffer((4,), "float32")
            T.buffer_store(kept, x[i] * 2.0, [0])
            T.buffer_store(out, kept[0], [i])
    return builder.get().with_attr("global_symbol", "loops")


@pytest.fixture
def compacted() -> Iterator[_Compacted]:
    notes = _Compacted()
    with tvm.transform.PassContext(instruments=[notes]):
        yield notes


def test_loops_keep_their_memory_and_all_functions_work(compacted: _Compacted) -> None:
    module = tvm.IRModule({"blocks": _of_blocks(), "loops": _of_loops()})
    built = tvm.compile(module, target="llvm", tir_pipeline=NAME)
    assert compacted.names == {"blocks"}
    x = np.arange(7, dtype=np.float32)
    for name, want in (("blocks", x + 1), ("loops", x * 2)):
        out = tvm.runtime.tensor(np.zeros(7, np.float32))
        built[name](tvm.runtime.tensor(x), out)
        np.testing.assert_array_equal(out.numpy(), want)
