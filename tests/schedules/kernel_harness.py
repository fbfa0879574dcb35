"""Compiles single kernels for the targets that this machine can run."""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm.target import codegen

from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.target_string import make_target


def _host_targets() -> dict[str, tvm.target.Target]:
    """Targets by name: the generic one, this machine's own CPU, and AVX2 where the CPU has it."""
    found = make_target("tvm_vacc -mcpu=native").attrs  # a hypervisor may mask features
    options = {key: found[key] for key in ("mcpu", "mattr") if key in found}
    native = tvm.target.Target({"kind": "llvm", **options})
    targets = {"generic": tvm.target.Target("llvm"), "native": native}
    if codegen.target_has_features(["avx2", "fma", "f16c"], native):
        targets["avx2"] = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3"})
    return targets


HOST_TARGETS = _host_targets()


def build_kernel(kernel: tvm.tirx.PrimFunc, target: tvm.target.Target) -> Callable[..., None]:
    """Compile one kernel alone; the result takes tensors and writes its outputs into them."""
    module = tvm.IRModule({"kernel": kernel.with_attr("global_symbol", "kernel")})
    return tvm.compile(module, target=target, tir_pipeline=NAME)["kernel"]
