"""Times the kernel of one linear by other choices against the default ones, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod

import tvm

from schedules import linear_float, linear_int4, linear_int8
from schedules.linears import kernel_of
from schedules.tiles import FLOAT_BYTES, Linear, read_tiles
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.machine.memory import cold, large_tensor, random_tensor
from tvm_vacc.machine.setup import Setup
from tvm_vacc.quantize.scheme import SCHEMES
from tvm_vacc.tile_records import Chosen, TokenTimes
from tvm_vacc.tuning.in_turn import Run, require_same, time_in_turn


@dataclass(frozen=True)
class LinearBench:
    """Packed weights and activations of one linear.

    Attributes:
        linear: what the kernels are made for.
        tokens: numbers of them that are timed.
        among: bytes of the weights that a model reads between two calls of the same kernel.
        setup: target and threads.
    """

    linear: Linear
    tokens: tuple[int, ...]
    among: int
    setup: Setup

    def compare(self, tiles: Chosen, seconds: float) -> tuple[TokenTimes, ...]:
        """Time the kernel by the choices `tiles` against the default one.

        Args:
            tiles: what it chooses otherwise.
            seconds: for rounds in which both are timed, one after the other, with each number of
                tokens; less where it is far slower.

        Raises:
            PassError: its results are not those of the default one, bit for bit.
        """
        # The default is built anew each time: where code and memory happen to lie matters, and
        # should favour neither of them always.
        kernels = [self._kernel({}), self._kernel(tiles)]
        found = []
        for tokens in self.tokens:
            self._check(kernels, tokens, tiles)
            one, other = (self._call(kernel, tokens) for kernel in kernels)
            found.append(time_in_turn(one, other, seconds, tokens))
        return tuple(found)

    @cached_property
    def _weights(self) -> Iterator[list[tvm.runtime.Tensor]]:
        return cold(partial(_weights, self.linear), weight_bytes(self.linear), self.among)

    @cached_property
    def _activations(self) -> dict[int, tuple[tvm.runtime.Tensor, tvm.runtime.Tensor]]:
        """By the number of tokens; always the same, as a model's planned memory is."""
        dtype = "float32" if self.linear.takes == "float" else self.linear.takes
        return {
            tokens: (
                random_tensor((tokens, self.linear.in_features), dtype),
                large_tensor((tokens, self.linear.out_features), "float32"),
            )
            for tokens in self.tokens
        }

    def _kernel(self, tiles: Chosen) -> Callable[..., None]:
        isa = self.setup.isa
        read = read_tiles(tiles, self.linear, isa)
        return self.setup.build(kernel_of(self.linear, isa, bias_dtype=None, tiles=read))

    def _call(self, kernel: Callable[..., None], tokens: int) -> Run:
        x, out = self._activations[tokens]

        def call() -> None:
            kernel(x, *next(self._weights), out)

        return call

    def _check(self, kernels: list[Callable[..., None]], tokens: int, tiles: Chosen) -> None:
        (x, out), weights = self._activations[tokens], next(self._weights)
        calls = [partial(kernel, x, *weights, out) for kernel in kernels]
        require_same(self.linear, tiles, calls, out)


def weight_bytes(linear: Linear) -> int:
    """Return the bytes of a linear's packed weights."""
    return sum(prod(shape) * NUMPY_DTYPES[dtype].itemsize for shape, dtype in _shapes(linear))


def _shapes(linear: Linear) -> list[tuple[tuple[int, ...], str]]:
    """Return shape and dtype of a linear's weights, and of the scales where there are some."""
    sizes = (linear.out_features, linear.in_features)
    if linear.weights in FLOAT_BYTES:
        return [(linear_float.packed_shape(*sizes), linear.weights)]
    if SCHEMES[linear.weights].weight_bits == 4:
        codes, scales = linear_int4.packed_shapes(*sizes, linear.group_size)
        return [(codes, linear_int4.PACKED_DTYPE), (scales, linear_int4.SCALE_DTYPE)]
    codes = linear_int8.packed_shape(*sizes)
    return [(codes, linear_int8.PACKED_DTYPE), ((linear.out_features,), "float32")]


def _weights(linear: Linear) -> list[tvm.runtime.Tensor]:
    """Return what the kernel takes between activations and result."""
    made = [random_tensor(shape, dtype, scale=0.02) for shape, dtype in _shapes(linear)]
    if linear.takes == "float":
        return made
    sums = (linear.out_features,)
    return [
        *made,
        random_tensor((1,), "float32"),
        large_tensor((1,), "int32"),
        large_tensor(sums, "int32"),
    ]
