"""The pass context that a module is built in: its options, and its watchers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import tvm
from tvm.ir.instrument import PassTimingInstrument

from tvm_vacc.codegen.instruments import PassPrinter
from tvm_vacc.codegen.options import BuildOptions, BuildWatch
from tvm_vacc.errors import ConfigError, VaccError


@contextmanager
def build_context(build: BuildOptions, watch: BuildWatch, *instruments: Any) -> Iterator[None]:
    """Run TVM's passes inside as `build` and `watch` ask for.

    Raises:
        ConfigError: TVM fails where it was told to leave passes out, or to run them otherwise.
    """
    timing = PassTimingInstrument() if watch.times is not None else None
    watching = [*instruments, *([timing] if timing else [])]
    if watch.print_before or watch.print_after:
        watching.append(PassPrinter(watch.print_before, watch.print_after, watch.show))
    context = tvm.transform.PassContext(
        opt_level=build.opt_level,
        config=dict(build.pass_config) or None,
        disabled_pass=list(build.disabled) or None,
        instruments=watching or None,
    )
    with context, build.tuning.gaining() if build.tuning else nullcontext():
        try:
            yield
        except VaccError:
            raise
        except Exception as error:
            if not build.disabled and not build.pass_config:
                raise
            given = ", ".join([*build.disabled, *build.pass_config])
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ConfigError(
                f"TVM cannot build the model with {given} as asked: {reason:.200}",
                "leave these options out",
            ) from error
        if timing is not None and watch.times is not None:
            watch.times(timing.render())
