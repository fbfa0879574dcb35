"""Every kernel at the shapes of GLM-4-9B: one module a kernel, found by its name.

A module here defines ``cases(setup: Setup) -> Iterator[Case]``: it builds its kernel with
`Setup.build`, makes its arguments with `tvm_vacc.machine.memory` (weights and caches by `cold`, so
that each use finds them in memory and in no cache), and yields one `Case` a shape, made when it is
asked for, so that only one case's arguments are in memory.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence

from benchmarks.measure import Case
from tvm_vacc.errors import ConfigError
from tvm_vacc.machine.setup import Setup

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
"""Names of the kernels that can be measured."""


def kernel_cases(setup: Setup, only: Sequence[str] = ()) -> Iterator[Case]:
    """Yield the cases of the kernels named in `only`; of all where it is empty.

    Raises:
        ConfigError: a name that is none of `NAMES`.
    """
    for name in only:
        if name not in NAMES:
            raise ConfigError(f"there is no kernel {name!r}", f"choose of {', '.join(NAMES)}")
    for name in only or NAMES:
        yield from importlib.import_module(f"{__name__}.{name}").cases(setup)
