"""Times the kernel of one attention by other choices against the default ones, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import cycle
from math import prod

import numpy as np
import tvm

from schedules.attention_tiles import Attention, attention_kernel, read_attention_tiles
from schedules.kv_cache import key_cache_shape, position_bytes, value_cache_shape
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.machine.memory import cold_bytes, random_tensor
from tvm_vacc.machine.setup import Setup
from tvm_vacc.runtime.tensors import to_tvm
from tvm_vacc.tile_records import Chosen, TokenTimes
from tvm_vacc.tuning.in_turn import Run, require_same, time_in_turn

SCALE = 0.01
"""Of the codes of an int8 cache."""


@dataclass(frozen=True, order=True)
class Step:
    """What one call computes: the last `new` of `context` positions of each of `rows` sequences."""

    rows: int
    new: int
    context: int

    @property
    def tokens(self) -> int:
        """New ones in all."""
        return self.rows * self.new


@dataclass(frozen=True)
class AttentionBench:
    """Caches of random values, and the calls over them.

    Attributes:
        attention: what the kernels are made for.
        steps: that are timed.
        setup: target and threads.
    """

    attention: Attention
    steps: tuple[Step, ...]
    setup: Setup

    def compare(self, tiles: Chosen, seconds: float) -> tuple[TokenTimes, ...]:
        """Time the kernel by the choices `tiles` against the default one.

        Args:
            tiles: what it chooses otherwise.
            seconds: for rounds of each step: see `time_in_turn`.

        Raises:
            PassError: its results are not those of the default one, bit for bit.
        """
        kernels = [self._kernel({}), self._kernel(tiles)]
        found = []
        for step in self.steps:
            arguments, out = self._arguments(step)
            same = next(arguments)
            require_same(self.attention, tiles, [partial(kernel, *same) for kernel in kernels], out)
            one, other = (self._call(kernel, arguments) for kernel in kernels)
            found.append(time_in_turn(one, other, seconds, step.tokens, step.context))
        return tuple(found)

    def _kernel(self, tiles: Chosen) -> Callable[..., None]:
        read = read_attention_tiles(tiles, self.attention, self.setup.isa)
        scale = self.attention.head_dim**-0.5
        return self.setup.build(attention_kernel(self.attention, scale, self.setup.isa, read))

    @staticmethod
    def _call(kernel: Callable[..., None], arguments: Iterator[list[tvm.runtime.Tensor]]) -> Run:
        return lambda: kernel(*next(arguments))

    @cached_property
    def _pages(self) -> int:
        """So many that no cache holds them, and enough for the largest step."""
        of = self.attention
        page_bytes = PAGE_SIZE * position_bytes(of.kv_heads, of.head_dim, of.cache)
        most = max(step.rows * -(-step.context // PAGE_SIZE) for step in self.steps)
        return max(-(-cold_bytes() // page_bytes), most)

    @cached_property
    def _caches(self) -> list[tvm.runtime.Tensor]:
        of = self.attention
        caches = []
        for shape_of in (key_cache_shape, value_cache_shape):
            shape = shape_of(self._pages, of.kv_heads, of.head_dim, of.cache)
            cache = random_tensor(shape, of.cache)
            if of.cache == "int8":
                scales = np.full((prod(shape[:2]), PAGE_SIZE), SCALE, np.float32)
                codes = np.from_dlpack(cache)
                codes[..., -1, :] = scales.view(np.int8).reshape(codes[..., -1, :].shape)
            caches.append(cache)
        return caches

    def _arguments(
        self, step: Step
    ) -> tuple[Iterator[list[tvm.runtime.Tensor]], tvm.runtime.Tensor]:
        """Return those of calls over other pages each, in turn, and the output of all."""
        of = self.attention
        row_pages = -(-step.context // PAGE_SIZE)
        calls = self._pages // (step.rows * row_pages)
        order = np.random.default_rng(0).permutation(self._pages).astype(np.int32)
        tables = order[: calls * step.rows * row_pages].reshape(calls, step.rows, row_pages)
        shape = (step.tokens, of.heads, of.head_dim)
        query, out = (random_tensor(shape, "float32") for _ in range(2))
        index = (np.arange(step.rows + 1) * step.new, np.full(step.rows, step.context))
        ends = [to_tvm(numbers.astype(np.int32)) for numbers in index]
        return cycle([[query, *self._caches, to_tvm(table), *ends, out] for table in tables]), out
