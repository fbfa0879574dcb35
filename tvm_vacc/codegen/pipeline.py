"""From Relax to VM bytecode: what ``tvm.compile(module, target="tvm_vacc")`` runs."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.s_tir import dlight
from tvm.s_tir.meta_schedule.database import Database

from tvm_vacc.codegen.gemv import Gemv
from tvm_vacc.ops.widen import legalize_widen, widen


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
    """Return the first part of it: to calls of scheduled kernels, their memory planned.

    Where a database of MetaSchedule's is open (``with database:``), it schedules the kernels that
    it knows.
    """
    tuned = [] if Database.current() is None else [relax.transform.MetaScheduleApplyDatabase()]
    return tvm.transform.Sequential(
        [
            *fuse_passes().passes,
            *tuned,
            schedule_passes(),
            relax.transform.RewriteDataflowReshape(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
        ],
        name="tvm_vacc.plan",
    )


def fuse_passes() -> tvm.transform.Pass:
    """Return the first part of that: to calls of fused kernels; only ours are scheduled."""
    return tvm.transform.Sequential(
        [
            relax.backend.DispatchSampling(),
            relax.backend.DispatchSortScan(),
            relax.transform.LegalizeOps(),
            relax.transform.FoldConstant(),
            relax.transform.LegalizeOps({widen.name: legalize_widen}),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
        ],
        name="tvm_vacc.fuse",
    )


def schedule_passes() -> tvm.transform.Pass:
    """Return the pass that schedules the kernels of stock operators that nothing has scheduled."""
    return dlight.ApplyDefaultSchedule(Gemv(), dlight.cpu.Reduction())
