"""What everything measured in one run has in common: the target and the threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import tvm

from schedules.isa import Isa, isa_of
from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.runtime.executable import set_threads
from tvm_vacc.target_string import make_target


@dataclass(frozen=True)
class Setup:
    """One machine, one target, one number of threads; make it with `Setup.make`.

    Attributes:
        target: what kernels are compiled for.
        threads: workers of every parallel loop.
    """

    target: tvm.target.Target
    threads: int

    @classmethod
    def make(cls, target: str = "tvm_vacc -mcpu=native", threads: int | None = None) -> Setup:
        """Parse `target` and configure TVM's threads; None means every CPU of this process.

        Raises:
            TargetError: TVM cannot take the target.
            RequestError: `threads` is out of range.
        """
        threads = threads or len(os.sched_getaffinity(0))
        set_threads(threads)
        return cls(make_target(target), threads)

    @property
    def isa(self) -> Isa:
        """The instruction set that kernels for `target` are generated for."""
        return isa_of(self.target)

    def build(self, kernel: tvm.tirx.PrimFunc) -> Callable[..., None]:
        """Compile one kernel alone; the result takes tensors and writes its outputs into them."""
        module = tvm.IRModule({"kernel": kernel.with_attr("global_symbol", "kernel")})
        return tvm.compile(module, target=self.target, tir_pipeline=NAME)["kernel"]
