"""Runs imported and rewritten modules, and the passes one after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tvm
from tvm import ir, relax

from relay_passes.base import Pass
from relay_passes.cancel_transposes import CancelTransposes
from relay_passes.canonicalize import Canonicalize
from relay_passes.find_positions import FindPositions
from relay_passes.fuse_embedding import FuseEmbedding
from relay_passes.fuse_gqa_attention import FuseGqaAttention
from relay_passes.fuse_linear import FuseLinear
from relay_passes.fuse_rms_norm import FuseRmsNorm
from relay_passes.fuse_rope import FuseRope
from relay_passes.fuse_swiglu import FuseSwiglu
from relay_passes.rewrite_kv_cache import RewriteKvCache
from tests.ops.harness import to_numpy, to_tvm
from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.frontend.import_onnx import ImportedModel, import_onnx

FUSIONS: tuple[Pass, ...] = (
    Canonicalize(),
    FuseRmsNorm(),
    FuseRope(),
    FuseSwiglu(),
    FuseLinear(),
    FuseEmbedding(),
)
"""The passes before the cache: their results take and return what the ONNX file does."""

CACHE: tuple[Pass, ...] = (
    RewriteKvCache(),
    FuseGqaAttention(),
    FindPositions(),
    CancelTransposes(),
)


def fused(path: Path) -> tuple[ImportedModel, ir.IRModule]:
    """Import `path` and apply every pass; each must leave its input as it was."""
    model = import_onnx(path)
    module = model.module
    for graph_pass in (*FUSIONS, *CACHE):
        module = apply(graph_pass, module)
    return model, module


def apply(graph_pass: Pass, module: ir.IRModule) -> ir.IRModule:
    """Apply one pass, checking what every pass promises."""
    before = module.script()
    result = graph_pass.apply(module)
    assert module.script() == before, f"{graph_pass.name} changed its input"
    assert relax.analysis.well_formed(result.module) is not False
    return result.module


def run_main(module: ir.IRModule, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Compile for stock LLVM and run; parameters are taken from `values` by name."""
    executable = tvm.compile(module, target="llvm", tir_pipeline=NAME)
    arguments = [to_tvm(values[param.name]) for param in module["main"].params]
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](*arguments)
    if isinstance(result, tvm.runtime.Tensor):
        return [to_numpy(result)]
    return [to_numpy(item) for item in result]


def op_names(module: ir.IRModule) -> set[str]:
    """Return the short names of all Relax operators in `main`."""
    names = set()

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call) and isinstance(expr.op, ir.Op):
            names.add(expr.op.name.removeprefix("relax."))

    relax.analysis.post_order_visit(module["main"], visit)
    return names
