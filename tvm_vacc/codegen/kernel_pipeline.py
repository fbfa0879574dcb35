"""Lowers kernels to what LLVM takes: TVM's pipeline, less what ours have no use for."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import SBlock
from tvm.s_tir.pipeline import default_s_tir_pipeline
from tvm.tirx.compilation_pipeline import PIPELINE_MAP
from tvm_ffi import VisitInterrupt, structural_walk

NAME = "tvm_vacc"
"""Of the pipeline, for ``tvm.compile(.., tir_pipeline=..)``."""

_COMPACTION = "s_tir.CompactBufferAllocation"


def kernel_pipeline() -> tuple[tvm.transform.Pass, tvm.transform.Pass, tvm.transform.Pass]:
    """Return TVM's default pipeline that leaves the memory of kernels without blocks as it is.

    Schedules of blocks allocate more than is used, and rely on its being shrunk. Our kernels are
    loops that allocate what they need; to find the bounds of all their accesses takes TVM a third
    of their compilation.
    """
    lower, finalize_host, finalize_device = default_s_tir_pipeline()

    @tvm.transform.module_pass(opt_level=0, name="lower_kernels")
    def lower_kernels(
        module: tvm.ir.IRModule, context: tvm.transform.PassContext
    ) -> tvm.ir.IRModule:
        functions = dict(module.functions_items())
        loops = {gvar: kernel for gvar, kernel in functions.items() if not _has_blocks(kernel)}
        others = {gvar: kernel for gvar, kernel in functions.items() if gvar not in loops}
        lowered = lower(tvm.IRModule(others, module.attrs))
        with _without(context, _COMPACTION):
            lowered.update(lower(tvm.IRModule(loops, module.attrs)))
        return lowered

    return lower_kernels, finalize_host, finalize_device


def _has_blocks(function: tirx.PrimFunc) -> bool:
    found = structural_walk(function.body, (SBlock, lambda _: VisitInterrupt()))
    return found is not None


def _without(context: tvm.transform.PassContext, name: str) -> tvm.transform.PassContext:
    return tvm.transform.PassContext(
        opt_level=context.opt_level,
        required_pass=list(context.required_pass),
        disabled_pass=[*context.disabled_pass, name],
        instruments=list(context.instruments),
        config=dict(context.config),
    )


PIPELINE_MAP[NAME] = kernel_pipeline
