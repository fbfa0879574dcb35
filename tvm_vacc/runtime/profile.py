"""Where the time of one run of a loaded model goes: kernel by kernel, the virtual machine, Python.

Runs alone and runs with an instrument take turns. The first kind tells how long the run is, and how
much of it lies within compiled functions; the second how much of that are kernels. Each of the
second kind is held against its two neighbours of the first, so that a machine that slows down or
recovers meanwhile does not show as a share.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import tvm

from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import RequestError
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.runtime.batch import Row
from tvm_vacc.runtime.call_times import Call, calls_of, time_calls
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.runtime.kv_cache import Sequence as Tokens
from tvm_vacc.runtime.model import Model
from tvm_vacc.runtime.sampling import SamplingParams
from tvm_vacc.runtime.timed_call import TimedCall


@dataclass(frozen=True)
class KernelProfile:
    """All calls of one kernel on weights of one shape, in one run.

    Attributes:
        name: of the compiled function.
        weight: dtype and shape of its largest weight or cache; empty where it has none.
        calls: in one run.
        seconds: of all calls together, median of the runs.
        bytes: of tensors that they read and write; of caches and look-up tables what they touch.
        operations: multiplications and additions of matrix products and attention; else 0.
    """

    name: str
    weight: str
    calls: int
    seconds: float
    bytes: int
    operations: int


@dataclass(frozen=True)
class Profile:
    """One run, taken apart; times are medians of the runs.

    Attributes:
        seconds: of the whole run.
        functions: seconds of it that lie within compiled functions.
        kernels: the most expensive first.
    """

    seconds: float
    functions: float
    kernels: tuple[KernelProfile, ...]

    @property
    def machine(self) -> float:
        """Seconds of the compiled functions that are no kernel: the virtual machine's own."""
        return max(0.0, self.functions - sum(kernel.seconds for kernel in self.kernels))

    @property
    def python(self) -> float:
        """Seconds before, between and after the compiled functions."""
        return self.seconds - self.functions

    @property
    def explained(self) -> float:
        """The share of the run that kernels, virtual machine and Python make up together.

        More than 1 where the kernels take longer when they are looked at than the functions that
        they are in take otherwise.
        """
        kernels = sum(kernel.seconds for kernel in self.kernels)
        return (kernels + self.machine + self.python) / self.seconds


def profile_model(
    model: Model, *, context: int, tokens: int = 1, batch: int = 1, rounds: int = 10
) -> Profile:
    """Profile a step of a language model and the drawing of its next tokens.

    Args:
        model: is used by nobody else meanwhile.
        context: positions in the cache of each sequence when the step begins.
        tokens: new ones of each sequence: 1 to decode, more to prefill.
        batch: sequences.
        rounds: runs with and without the instrument, in turn.

    Raises:
        RequestError: the model cannot hold such a step.
    """
    if context < 0 or tokens < 1 or batch < 1 or context + tokens > model.context:
        raise RequestError(
            f"{tokens} tokens after {context} do not fit a context of {model.context}",
            "give fewer, at least one token of one sequence",
        )
    if batch * tokens > model.prefill_tokens:
        raise RequestError(
            f"{batch * tokens} tokens a step, the model was compiled for {model.prefill_tokens}",
            "give fewer, or compile with a larger --prefill",
        )
    sequences = [Tokens() for _ in range(batch)]
    greedy, uniforms = [SamplingParams()] * batch, [0.0] * batch

    def run() -> None:
        rows = [Row(sequence, new) for sequence in sequences]
        model.sample_rows(model.step(rows), greedy, uniforms)
        for sequence in sequences:
            model.pool.truncate(sequence, context)

    vocab = model.spec.vocab
    new = [(7 * i + 3) % vocab for i in range(tokens)]
    try:
        for index, sequence in enumerate(sequences):
            if context:
                model.prefill(sequence, [(i + index) % vocab for i in range(context)])
        functions = (model.forward, model.draw)
        costs = _ModelCosts(model, context, tokens, batch)
        return _profile(model.machine, functions, run, costs, rounds)
    finally:
        for sequence in sequences:
            model.pool.truncate(sequence, 0)


def profile_graph(graph: Graph, arrays: Mapping[str, np.ndarray], *, rounds: int = 10) -> Profile:
    """Profile a run of a plain graph on `arrays`.

    Raises:
        RequestError: an input is missing, unknown, or of another dtype or shape.
    """
    costs = _Costs(graph.params)
    return _profile(graph.machine, (graph.forward,), lambda: graph.run(arrays), costs, rounds)


class _Costs:
    """Bytes and operations of a kernel call, from the tensors that it is called with."""

    def __init__(self, params: Any) -> None:
        self._kept = {_address(tensor) for tensor in params}

    def weight(self, tensors: list[Any]) -> str:
        kept = [tensor for tensor in tensors if _address(tensor) in self._kept]
        if not kept:
            return ""
        largest = max(kept, key=_nbytes)
        return f"{largest.dtype} {' x '.join(map(str, largest.shape))}"

    def bytes(self, tensors: list[Any]) -> int:
        return sum(_nbytes(tensor) for tensor in tensors)

    def operations(self, tensors: list[Any]) -> int:
        """A matrix product takes a weight of two dimensions or more, and makes new channels."""
        is_product = len(tensors) > 2 and any(
            _address(tensor) in self._kept and len(tensor.shape) > 1 for tensor in tensors[1:-1]
        )
        return 2 * prod(tensors[-1].shape) * tensors[0].shape[-1] if is_product else 0


class _ModelCosts(_Costs):
    """The same where some parameters are caches and one is a table, of which a part is touched."""

    def __init__(self, model: Model, context: int, tokens: int, batch: int) -> None:
        super().__init__(model.params)
        self._spec, self._tokens = model.spec, tokens * batch
        caches = model.params[: len(model.manifest.caches)]
        self._caches = {_address(cache) for cache in caches}
        # A token sees what was there before it, and itself.
        self._read = batch * (context + tokens)
        self._pairs = batch * (tokens * context + tokens * (tokens + 1) // 2)

    def bytes(self, tensors: list[Any]) -> int:
        return sum(self._touched(tensor, tensors) for tensor in tensors)

    def operations(self, tensors: list[Any]) -> int:
        if any(_address(tensor) in self._caches for tensor in tensors):
            width = self._spec.heads * self._spec.head_dim
            return 4 * width * self._pairs if self._attends(tensors) else 0
        return 0 if self._looks_up(tensors) else super().operations(tensors)

    def _touched(self, tensor: Any, tensors: list[Any]) -> int:
        if _address(tensor) in self._caches:
            _pages, *page = tensor.shape
            position = prod(page) * _itemsize(tensor) // PAGE_SIZE
            return position * (self._read if self._attends(tensors) else self._tokens)
        if _address(tensor) in self._kept and self._looks_up(tensors):
            return _nbytes(tensor) // tensor.shape[0] * self._tokens
        return _nbytes(tensor)

    def _attends(self, tensors: list[Any]) -> bool:
        """Attention writes another tensor than the caches; appending writes them."""
        return _address(tensors[-1]) not in self._caches

    def _looks_up(self, tensors: list[Any]) -> bool:
        """A table comes first, what is multiplied by a weight before it."""
        return _address(tensors[0]) in self._kept


@dataclass(frozen=True)
class _Cost:
    name: str
    weight: str
    bytes: int
    operations: int


def _profile(
    machine: tvm.relax.VirtualMachine,
    functions: Sequence[TimedCall],
    run: Callable[[], object],
    costs: _Costs,
    rounds: int,
) -> Profile:
    def cost_of(name: str, args: Sequence[Any]) -> _Cost:
        tensors = [arg for arg in args if isinstance(arg, tvm.runtime.Tensor)]
        return _Cost(name, costs.weight(tensors), costs.bytes(tensors), costs.operations(tensors))

    def run_alone() -> tuple[float, float]:
        before = sum(function.seconds for function in functions)
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        return seconds, sum(function.seconds for function in functions) - before

    run()
    calls = calls_of(machine, run, cost_of)
    alone, looked_at = [run_alone()], []
    for _ in range(rounds):
        looked_at.append(time_calls(machine, run, calls))
        alone.append(run_alone())
    inside = statistics.median(within for _, within in alone)
    # What a round's kernel times are multiplied by to be those of the median run.
    scales = [2 * inside / (a + b) for (_, a), (_, b) in pairwise(alone)]
    return Profile(
        seconds=inside + statistics.median(seconds - within for seconds, within in alone),
        functions=inside,
        kernels=_kernels(calls, looked_at, scales),
    )


def _kernels(
    calls: Sequence[Call[_Cost]], rounds: Sequence[Sequence[float]], scales: Sequence[float]
) -> tuple[KernelProfile, ...]:
    """Return the kernels, calls of the same name on weights of the same shape taken together."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, call in enumerate(calls):
        if call.what is not None:
            places.setdefault((call.what.name, call.what.weight), []).append(place)
    kernels = []
    for (name, weight), where in places.items():
        costs = [cost for place in where if (cost := calls[place].what) is not None]
        taken = [
            scale * sum(times[place] for place in where)
            for times, scale in zip(rounds, scales, strict=True)
        ]
        kernels.append(
            KernelProfile(
                name=name,
                weight=weight,
                calls=len(where),
                seconds=statistics.median(taken),
                bytes=sum(cost.bytes for cost in costs),
                operations=sum(cost.operations for cost in costs),
            )
        )
    return tuple(sorted(kernels, key=lambda kernel: -kernel.seconds))


def _address(tensor: Any) -> int:
    return tensor.data_ptr()


def _itemsize(tensor: Any) -> int:
    name = str(tensor.dtype)
    return (NUMPY_DTYPES.get(name) or np.dtype(name)).itemsize


def _nbytes(tensor: Any) -> int:
    return prod(tensor.shape) * _itemsize(tensor)
