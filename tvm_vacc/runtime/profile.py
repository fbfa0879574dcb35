"""Where the time of one run of a loaded model goes, kernel by kernel.

TVM's virtual machine calls an instrument before and after every call that it makes. What the
instrument itself costs is measured on calls that do nothing, and taken off. The run as a whole is
timed without it; so the kernels' sum says how much of the run they explain.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tvm

from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import RequestError
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.runtime.batch import Row
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.runtime.kv_cache import Sequence
from tvm_vacc.runtime.model import Model
from tvm_vacc.runtime.sampling import SamplingParams

BUILTIN = "vm.builtin."
"""What the virtual machine's own functions begin with, in TVM."""

NOTHING = "vm.builtin.null_value"
"""A function that does nothing: its time is that of the instrument."""


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
    """One run, taken apart.

    Attributes:
        seconds: of the whole run without instrument, median of the runs.
        kernels: the most expensive first.
    """

    seconds: float
    kernels: tuple[KernelProfile, ...]

    @property
    def explained(self) -> float:
        """The share of the run that the kernels make up; what is left are Python and the VM."""
        return sum(kernel.seconds for kernel in self.kernels) / self.seconds


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
    sequences = [Sequence() for _ in range(batch)]
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
        return _profile(model.machine, run, _ModelCosts(model, context, tokens, batch), rounds)
    finally:
        for sequence in sequences:
            model.pool.truncate(sequence, 0)


def profile_graph(graph: Graph, arrays: Mapping[str, np.ndarray], *, rounds: int = 10) -> Profile:
    """Profile a run of a plain graph on `arrays`.

    Raises:
        RequestError: an input is missing, unknown, or of another dtype or shape.
    """
    return _profile(graph.machine, lambda: graph.run(arrays), _Costs(graph.params), rounds)


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
            position = prod(page) * NUMPY_DTYPES[str(tensor.dtype)].itemsize // PAGE_SIZE
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


def _profile(
    machine: tvm.relax.VirtualMachine, run: Callable[[], object], costs: _Costs, rounds: int
) -> Profile:
    run()
    whole, calls = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        whole.append(time.perf_counter() - start)
        with _recording(machine, costs) as recorded:
            run()
        calls.append(recorded)
    kernels = [
        KernelProfile(
            name=name,
            weight=weight,
            calls=len(first),
            seconds=statistics.median(sum(call.seconds for call in one[key]) for one in calls),
            bytes=sum(call.bytes for call in first),
            operations=sum(call.operations for call in first),
        )
        for key, first in calls[0].items()
        for name, weight in [key]
    ]
    kernels.sort(key=lambda kernel: -kernel.seconds)
    return Profile(statistics.median(whole), tuple(kernels))


@dataclass
class _Call:
    seconds: float
    bytes: int
    operations: int


_Calls = dict[tuple[str, str], list[_Call]]


@contextmanager
def _recording(machine: tvm.relax.VirtualMachine, costs: _Costs) -> Iterator[_Calls]:
    """Yield what becomes, when the block ends, the calls by name and weight."""
    times: list[tuple[str, float, list[Any]]] = []
    nothing: list[float] = []
    start = 0.0

    def instrument(_function: Any, name: str, before: bool, _result: Any, *args: Any) -> int:
        nonlocal start
        if before:
            start = time.perf_counter()
            return 0
        seconds = time.perf_counter() - start
        if name == NOTHING:
            nothing.append(seconds)
        elif not name.startswith(BUILTIN):
            times.append((name, seconds, list(args)))
        return 0

    calls: _Calls = {}
    machine.set_instrument(instrument)
    try:
        yield calls
    finally:
        machine.set_instrument(None)
    overhead = statistics.median(nothing) if nothing else 0.0
    for name, seconds, args in times:
        tensors = [arg for arg in args if isinstance(arg, tvm.runtime.Tensor)]
        call = _Call(max(0.0, seconds - overhead), costs.bytes(tensors), costs.operations(tensors))
        calls.setdefault((name, costs.weight(tensors)), []).append(call)


def _address(tensor: Any) -> int:
    return tensor.data_ptr()


def _nbytes(tensor: Any) -> int:
    return prod(tensor.shape) * NUMPY_DTYPES[str(tensor.dtype)].itemsize
