"""Drawing the next token from the logits: greedy, and by temperature, top-k and top-p."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.glm4_9b import SPEC
from benchmarks.measure import Case, timed
from schedules.sampling import sample_kernel
from tvm_vacc.machine.memory import activations
from tvm_vacc.machine.setup import Setup
from tvm_vacc.runtime.tensors import to_tvm

ROWS = (1, 8)

PARAMETERS = {"greedy": (0.0, 1.0, 0), "top-k 40, top-p 0.9": (0.8, 0.9, 40)}
"""Temperature, top_p and top_k by what they are called."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a way of sampling and number of rows."""
    run = setup.build(sample_kernel(SPEC.vocab, setup.isa))
    for name, parameters in PARAMETERS.items():
        yield from (_case(run, name, parameters, rows) for rows in ROWS)


def _case(
    run: Callable[..., None], name: str, parameters: tuple[float, float, int], rows: int
) -> Case:
    temperature, top_p, top_k = parameters
    tensors, nbytes = activations((rows, SPEC.vocab))
    arguments = [
        to_tvm(np.full((rows,), temperature, np.float32)),
        to_tvm(np.full((rows,), top_p, np.float32)),
        to_tvm(np.full((rows,), top_k, np.int32)),
        to_tvm(np.full((rows,), 0.5, np.float32)),
        to_tvm(np.zeros((rows,), np.int32)),
    ]
    return Case(
        "sampling",
        f"{rows} x {SPEC.vocab}, {name}",
        timed(lambda: run(*next(tensors), *arguments)),
        nbytes,
        1.0 * rows * SPEC.vocab,
        "fp32",
    )
