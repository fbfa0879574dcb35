"""Builds one schedule; runs in the processes of MetaSchedule's builder, and imports little."""

from __future__ import annotations

import tvm
import tvm.driver
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock


def build_schedule(
    module: tvm.ir.IRModule,
    target: tvm.target.Target,
    _params: dict[str, tvm.runtime.Tensor] | None,
) -> tvm.runtime.Module:
    """Return the machine code of a schedule.

    As MetaSchedule's own function does, which imports the tensor intrinsics of every GPU that TVM
    knows in every process: see `cpu_intrinsics`. A schedule holds the intrinsics that it uses.
    """
    plain = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module)
    return tvm.driver.build(plain, target=target)
