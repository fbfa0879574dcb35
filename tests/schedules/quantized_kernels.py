"""Builds and calls the quantised linear kernels on every target that this machine can run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import tvm
from tvm.target import codegen

from schedules.isa import isa_of
from schedules.linear_int4 import linear_int4_kernel
from schedules.linear_int8 import linear_int8_kernel
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel

TARGETS = dict(HOST_TARGETS)
if codegen.target_has_features(["avx512f", "avx512bw", "avx512vl"], HOST_TARGETS["native"]):
    TARGETS["avx512"] = tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512"})
if isa_of(HOST_TARGETS["native"]).tiles:
    TARGETS["vnni"] = tvm.target.Target({"kind": "llvm", "mcpu": "cascadelake"})

LARGEST_CODE = {"int8": 127, "float": 32639}
"""Activations whose largest is this have the scale 1: integers are quantised to themselves."""

Kernel = Callable[..., np.ndarray]


@cache
def int8_kernel(
    in_features: int, out_features: int, target: str, activations: str, bias: str | None = None
) -> Kernel:
    isa = isa_of(TARGETS[target])
    kernel = linear_int8_kernel(
        in_features, out_features, isa, activations=activations, bias_dtype=bias
    )
    return _callable(kernel, target, out_features)


@cache
def int4_kernel(
    in_features: int, out_features: int, group: int, target: str, bias: str | None = None
) -> Kernel:
    isa = isa_of(TARGETS[target])
    kernel = linear_int4_kernel(in_features, out_features, group, isa, bias_dtype=bias)
    return _callable(kernel, target, out_features)


def _callable(kernel: tvm.tirx.PrimFunc, target: str, out_features: int) -> Kernel:
    built = build_kernel(kernel, TARGETS[target])

    def call(x: np.ndarray, *others: np.ndarray) -> np.ndarray:
        out = tvm.runtime.empty((len(x), out_features), "float32")
        built(*(tvm.runtime.tensor(array) for array in (x, *others)), out)
        return out.numpy()

    return call


def integers(rng: np.random.Generator, tokens: int, in_features: int, largest: int) -> np.ndarray:
    """Return ``[tokens, in]`` fp32 integers up to `largest`, which each token holds once."""
    x = rng.integers(-largest, largest + 1, (tokens, in_features)).astype(np.float32)
    x[np.arange(tokens), rng.integers(0, in_features, tokens)] = largest
    return x
