"""A user's own partitioning whose functions ``relax.ext.tvm_vacc`` turns into C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.dpl import is_op, wildcard
from tvm.support import cc

from tests.codegen_c.c_build import need
from tvm_vacc import ops

PATTERNS = [
    ("tvm_vacc.rms_norm", is_op("relax.tvm_vacc.rms_norm")(wildcard(), wildcard())),
    ("tvm_vacc.exp", is_op("relax.exp")(wildcard())),
]
WEIGHT = np.linspace(0.5, 2, 33, dtype=np.float32)


def partitioned(*, bind_constants: bool) -> tvm.ir.IRModule:
    """RMSNorm and exp for tvm_vacc, an addition for TVM; rows are known at run time."""
    rows = tvm.tirx.Var("rows", "int64")
    x = relax.Var("x", relax.TensorType([rows, 33], "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            normalised = builder.emit(ops.rms_norm(x, relax.const(WEIGHT), eps=1e-5))
            grown = builder.emit(relax.op.exp(normalised))
            result = builder.emit_output(relax.op.add(grown, x))
        builder.emit_func_output(result)
    fuse = relax.transform.FuseOpsByPattern(PATTERNS, bind_constants=bind_constants)
    return relax.transform.MergeCompositeFunctions()(fuse(builder.get()))


def source_of(module: tvm.ir.IRModule) -> str:
    [external] = module.attrs["external_mods"]
    return str(external.inspect_source())


@pytest.mark.parametrize("bind_constants", [False, True])
def test_its_functions_are_c_that_tvm_calls(tmp_path: Path, bind_constants: bool) -> None:
    module = relax.transform.RunCodegen()(partitioned(bind_constants=bind_constants))
    source = source_of(module)
    assert "int vacc_rms_norm(" in source
    assert "__tvm_ffi_fused_relax_tvm_vacc_rms_norm_relax_exp_tvm_vacc(" in source
    library = tmp_path / "library.so"
    need("gcc")
    relax.build(module, "llvm").export_library(
        str(library), fcompile=cc.cross_compiler("gcc", options=["-Wall", "-Wextra", "-Werror"])
    )
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    for count in (1, 7):
        x = np.random.default_rng(count).standard_normal((count, 33), dtype=np.float32)
        want = np.exp(ops.rms_norm.reference(x, WEIGHT, eps=1e-5)) + x
        got = machine["main"](tvm.runtime.tensor(x)).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_options_are_refused() -> None:
    run = relax.transform.RunCodegen({"tvm_vacc": {"threads": 4}})
    with pytest.raises(Exception, match=r"threads: relax\.ext\.tvm_vacc takes no options"):
        run(partitioned(bind_constants=False))
