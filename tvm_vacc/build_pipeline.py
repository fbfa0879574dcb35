"""From Relax to VM bytecode: what ``tvm.compile(module, target="tvm_vacc")`` runs."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.s_tir import dlight

import tvm_vacc.ops  # noqa: F401  registers the operators and their legalisations


def build_passes() -> tvm.transform.Pass:
    """Return the build pipeline: stock passes, with fusion and scheduling on top of the default.

    Operators of ours legalise to our kernels; every other operator goes through TVM's own
    legalisation, fusion and CPU schedules to LLVM.
    """
    return tvm.transform.Sequential(
        [
            *plan_passes().passes,
            relax.transform.LowerAllocTensor(),
            relax.transform.KillAfterLastUse(),
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            relax.transform.AttachGlobalSymbol(),
        ],
        name="tvm_vacc",
    )


def plan_passes() -> tvm.transform.Pass:
    """Return the first part of it: to calls of scheduled kernels, their memory planned."""
    return tvm.transform.Sequential(
        [
            relax.backend.DispatchSampling(),
            relax.backend.DispatchSortScan(),
            relax.transform.LegalizeOps(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            dlight.ApplyDefaultSchedule(dlight.cpu.GEMV(), dlight.cpu.Reduction()),
            relax.transform.RewriteDataflowReshape(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
        ],
        name="tvm_vacc.plan",
    )
