"""The tasks of a model: the kernels that tuning can work on, and the choice of some of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import tvm
from tvm.relax.analysis import has_reshape_pattern
from tvm.s_tir.analysis import estimate_tir_flops
from tvm.s_tir.meta_schedule.relax_integration import extract_tasks

from relay_passes.bound_memory import ATTRIBUTE as BOUNDS
from relay_passes.bundle_params import ENTRY
from relay_passes.choose_tiles import tiled_calls
from schedules.attention_tiles import Attention
from schedules.choices import alternatives
from schedules.isa import isa_of
from schedules.tiles import Linear
from tvm_vacc.codegen.pipeline import fuse_passes
from tvm_vacc.config import Config
from tvm_vacc.errors import ConfigError
from tvm_vacc.ops._registry import OPERATOR_ATTRIBUTE
from tvm_vacc.passed_module import passed_module
from tvm_vacc.tuning.attention_bench import Step
from tvm_vacc.tuning.linear_bench import weight_bytes

OPEN_TOKENS = (1, 8, 512)
"""Numbers of tokens that a linear is measured with where the model leaves them open: an answer, a
batch of them, and a prompt."""

CONTEXT = 1024
"""Positions that attention sees in an answer; a prompt sees no more than its own."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Kernel:
    """A kernel of stock operators.

    Attributes:
        name: of the fused function.
        module: the function alone, not scheduled.
        calls: in one run of the model.
        operations: of one call, as TVM estimates them.
    """

    name: str
    module: tvm.ir.IRModule
    calls: int
    operations: float


@dataclass(frozen=True)
class LinearKernel:
    """A linear, whose kernel's choices (`schedules.tiles`) may be made otherwise.

    Attributes:
        of: what it is made for.
        calls: in one run of the model.
        tokens: numbers of them that it is measured with.
        among: bytes of all linears' weights, which a run of the model reads in turn.
    """

    of: Linear
    calls: int
    tokens: tuple[int, ...]
    among: int

    @property
    def name(self) -> str:
        """What the linear is called."""
        return str(self.of)

    @property
    def operations(self) -> float:
        """Of one call, with the fewest tokens."""
        return 2.0 * self.tokens[0] * self.of.in_features * self.of.out_features


@dataclass(frozen=True)
class AttentionKernel:
    """Attention, whose kernel's choices (`schedules.attention_tiles`) may be made otherwise.

    Attributes:
        of: what it is made for.
        calls: in one run of the model.
        steps: that it is measured with.
    """

    of: Attention
    calls: int
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """What the attention is called."""
        return str(self.of)

    @property
    def operations(self) -> float:
        """Of one call, the first of the steps; pairs that are masked do not count."""
        step = self.steps[0]
        pairs = step.rows * (step.new * step.context - step.new * (step.new - 1) // 2)
        return 4.0 * pairs * self.of.heads * self.of.head_dim


TiledKernel = LinearKernel | AttentionKernel
"""A kernel of ours that has choices."""


@dataclass(frozen=True)
class Tasks:
    """All of a model.

    Attributes:
        kernels: those that can be tuned, the most expensive first.
        open_kernels: how many cannot, since dimensions of them are open.
    """

    kernels: tuple[Kernel | TiledKernel, ...]
    open_kernels: int


def find_tasks(
    path: str | Path | Config, target: tvm.target.Target, directory: Path, **given: Any
) -> Tasks:
    """Bring a model to fused kernels and return those that can be tuned.

    Args:
        path: see `tvm_vacc.compile`.
        target: what for; says how many cores there are.
        directory: for what a compile keeps beside its artefact.
        given: arguments of `resolve_options`.

    Raises:
        VaccError: see `tvm_vacc.compile`.
    """
    module = passed_module(path, target, directory, **given)
    with target:
        fused = fuse_passes()(module)
    kernels: list[Kernel | TiledKernel] = list(_tiled(module, target))
    open_kernels = 0
    for task in extract_tasks(fused, target):
        unscheduled = task.dispatched[0]
        [function] = [function for _, function in unscheduled.functions_items()]
        # A reshape becomes a view of the same memory, unless something schedules it.
        if OPERATOR_ATTRIBUTE in (function.attrs or {}) or has_reshape_pattern(function):
            continue
        if not _is_static(function):
            open_kernels += 1
            continue
        operations = float(estimate_tir_flops(unscheduled))
        kernels.append(Kernel(str(task.task_name), unscheduled, int(task.weight), operations))
    kernels.sort(key=lambda kernel: -kernel.operations * kernel.calls)
    return Tasks(tuple(kernels), open_kernels)


def chosen(tasks: Sequence[Item], text: str) -> list[Item]:
    """Return the tasks that ``all`` or ``0,2,3-5`` names, in that order.

    Raises:
        ConfigError: the text is neither, or names a task that is not there.
    """
    if text == "all":
        return list(tasks)
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if found is None:
            raise ConfigError(f"--tasks is {text!r}", "write all, list, or numbers: 0,2,3-5")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ConfigError(f"--tasks names {part.strip()}", f"write {last}-{first}")
        if last >= len(tasks):
            raise ConfigError(
                f"--tasks names {part.strip()}, the model has {len(tasks)} tasks, from 0 on",
                "see them with --tasks list",
            )
        numbers += range(first, last + 1)
    return [tasks[number] for number in dict.fromkeys(numbers)]


def _tiled(module: tvm.ir.IRModule, target: tvm.target.Target) -> list[TiledKernel]:
    """Return the linears and attentions of a model whose kernels have choices, each once."""
    bounds = (module[ENTRY].attrs or {}).get(BOUNDS, {})
    calls: Counter[Linear | Attention] = Counter()
    tokens: dict[Linear | Attention, set[int]] = {}
    among = 0
    for of, call in tiled_calls(module):
        calls[of] += 1
        dims = list(call.args[0].ty.shape)
        leading = dims[:-1] if isinstance(of, Linear) else dims[:-2]
        tokens.setdefault(of, set()).update(_tokens(leading, bounds))
        if isinstance(of, Linear):
            among += weight_bytes(of)
    found: list[TiledKernel] = []
    for of, number in calls.items():
        if not alternatives(of, isa_of(target)):
            continue
        if isinstance(of, Linear):
            found.append(LinearKernel(of, number, tuple(sorted(tokens[of])), among))
        else:
            found.append(AttentionKernel(of, number, _steps(tokens[of])))
    return found


def _steps(tokens: Iterable[int]) -> tuple[Step, ...]:
    """Return what attention is measured with: few tokens are a step of as many sequences."""
    return tuple(
        Step(1, count, count) if count > OPEN_TOKENS[1] else Step(count, 1, CONTEXT)
        for count in sorted(tokens)
    )


def _tokens(leading: Sequence[Any], bounds: Mapping[str, Any]) -> set[int]:
    """Return how many tokens these dimensions have: some numbers, where one is open."""
    if all(isinstance(dim, (int, tvm.tirx.IntImm)) for dim in leading):
        return {prod(int(dim) for dim in leading)}
    names = [dim.name for dim in leading if isinstance(dim, tvm.tirx.Var)]
    known = [int(bounds[name]) for name in names if name in bounds]
    return {min(number, *known) if known else number for number in OPEN_TOKENS}


def _is_static(function: tvm.tirx.PrimFunc) -> bool:
    return all(
        isinstance(dim, (int, tvm.tirx.IntImm))
        for param in function.params
        for dim in getattr(param.ty, "shape", ())
    )
