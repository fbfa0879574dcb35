"""Lowers scheduled kernels to loops, flat buffers and vectors: what is printed as C."""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx


def lower_kernels(module: tvm.ir.IRModule) -> tvm.ir.IRModule:
    """Return the PrimFuncs of `module`, lowered.

    TVM's own pipeline for CPUs (`tvm.s_tir.pipeline`), less what makes code unreadable and a C
    compiler does again: common subexpressions, shared storage, unsafe selects. Structure and
    bindings stay as the schedule wrote them.
    """
    kernels = tvm.IRModule(
        {
            gvar: function
            for gvar, function in module.functions_items()
            if isinstance(function, tirx.PrimFunc)
        }
    )
    return tvm.transform.Sequential(
        [
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.BF16ComputeLegalize(),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.UnrollLoop(),
            tirx.transform.RemoveNoOp(),
        ]
    )(kernels)
