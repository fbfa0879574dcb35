"""Sees every kernel call of a loaded model: what it reads by the checkpoint's names, what it makes.

The virtual machine tells an instrument of each call. Its weights are known by their addresses, and
the manifest says which tensors of the checkpoint each is made of: no kernel is known by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tvm

from tvm_vacc.runtime.call_times import BUILTIN
from tvm_vacc.runtime.model import Model


@dataclass(frozen=True)
class KernelCall:
    """One call, just done; its tensors are overwritten soon after.

    Attributes:
        reads: names of the checkpoint's tensors that its weights are made of, in their order.
        cache: the index of the cache that it writes; None where it writes none.
        tensors: its activations: fp32 inputs, then what it made.
    """

    reads: tuple[str, ...]
    cache: int | None
    tensors: tuple[Any, ...]

    @cached_property
    def inputs(self) -> list[np.ndarray]:
        """Copies of the fp32 activations that it read."""
        return [tensor.numpy() for tensor in self.tensors[: None if self.cache is not None else -1]]

    @cached_property
    def output(self) -> np.ndarray:
        """A copy of what it made, where that is no cache."""
        made: np.ndarray = self.tensors[-1].numpy()
        return made


@contextmanager
def observing(model: Model, seen: Callable[[KernelCall], None]) -> Iterator[None]:
    """Call `seen` after each kernel call of `model` while the block runs."""
    count = len(model.manifest.caches)
    caches = {tensor.data_ptr(): index for index, tensor in enumerate(model.params[:count])}
    sources = model.manifest.sources
    weights = {
        tensor.data_ptr(): sources.get(name, ())
        for tensor, name in zip(model.params[count:], model.manifest.parameters, strict=True)
    }

    def instrument(_function: Any, name: str, before: bool, _result: Any, *args: Any) -> int:
        if not before and not name.startswith(BUILTIN):
            seen(_call([arg for arg in args if isinstance(arg, tvm.runtime.Tensor)]))
        return 0

    def _call(tensors: list[Any]) -> KernelCall:
        reads = dict.fromkeys(
            source for tensor in tensors for source in weights.get(tensor.data_ptr(), ())
        )
        activations = [
            tensor
            for tensor in tensors
            if str(tensor.dtype) == "float32"
            and tensor.data_ptr() not in weights
            and tensor.data_ptr() not in caches
        ]
        return KernelCall(tuple(reads), caches.get(tensors[-1].data_ptr()), tuple(activations))

    model.machine.set_instrument(instrument)
    try:
        yield
    finally:
        model.machine.set_instrument(None)
