"""The CPUs that this process was given: TVM ties its own threads to some of them later."""

from __future__ import annotations

import os

CPUS = frozenset(os.sched_getaffinity(0))
"""Numbers of the CPUs when the program began."""
