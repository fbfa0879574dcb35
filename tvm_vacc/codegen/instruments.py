"""Instruments of TVM's pass context: what watches the build's own passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import tvm
from tvm.ir.instrument import pass_instrument

_IS_SCHEDULED = "tirx.is_scheduled"
"""The attribute by which TVM's schedulers know functions that they are to leave alone."""


@pass_instrument
class PassCounter:
    """Counts the passes of the build pipeline as they end.

    Args:
        names: of the passes, in order.
        progress: is told the steps done and in all.
        total: steps in all; what is more than passes comes after them.
    """

    def __init__(
        self, names: Sequence[str], progress: Callable[[int, int], None], total: int
    ) -> None:
        self._left = list(names)
        self._progress = progress
        self._total = total

    def run_after_pass(self, _module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM, of nested passes too."""
        if self._left and info.name == self._left[0]:
            self._left.pop(0)
            self._progress(self._total - 1 - len(self._left), self._total)


@pass_instrument
class PassPrinter:
    """Shows the module before and after passes of these names.

    Args:
        before: names.
        after: names.
        show: takes the text.
    """

    def __init__(
        self, before: Sequence[str], after: Sequence[str], show: Callable[[str], None]
    ) -> None:
        self._before, self._after, self._show = set(before), set(after), show

    def run_before_pass(self, module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM."""
        if info.name in self._before:
            self._show(f"# before {info.name}\n{module.script()}")

    def run_after_pass(self, module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM."""
        if info.name in self._after:
            self._show(f"# after {info.name}\n{module.script()}")


@pass_instrument
class TunedKernels:
    """Notes the kernels that tuning records have scheduled.

    Attributes:
        names: of their functions.
        seconds: what that took.
    """

    PASS = "MetaScheduleApplyDatabase"

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.seconds = 0.0
        self._before: set[str] = set()
        self._start = 0.0

    def run_before_pass(self, module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM."""
        if info.name == self.PASS:
            self._before, self._start = _scheduled(module), time.perf_counter()

    def run_after_pass(self, module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM."""
        if info.name == self.PASS:
            self.seconds = time.perf_counter() - self._start
            self.names = tuple(sorted(_scheduled(module) - self._before))


def _scheduled(module: tvm.ir.IRModule) -> set[str]:
    return {
        gvar.name_hint
        for gvar, function in module.functions_items()
        if isinstance(function, tvm.tirx.PrimFunc) and _IS_SCHEDULED in (function.attrs or {})
    }


@pass_instrument
class ModuleKeeper:
    """Keeps the module as the pass `name` has left it.

    Attributes:
        module: what it was; None before the pass has run.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.module: tvm.ir.IRModule | None = None

    def run_after_pass(self, module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM."""
        if info.name == self._name:
            self.module = module
