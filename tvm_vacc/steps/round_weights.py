"""Rounding to nearest by a kernel for the machine that compiles, whatever it compiles for.

Codes and scales are those of `tvm_vacc.quantize.round_to_nearest`, bit by bit, in a third of its
time for 8 bits and a tenth for 4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import Lock

import ml_dtypes
import numpy as np
import tvm
import tvm_ffi

from schedules.isa import isa_of
from schedules.round_to_nearest import SOURCE_DTYPES, round_to_nearest_kernel
from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.quantize.round_to_nearest import round_to_nearest
from tvm_vacc.target_string import NATIVE, make_target

_COMPILING = Lock()


def round_weights(weight: np.ndarray, bits: int, group_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a matrix, symmetrically: see `round_to_nearest`.

    The kernel lets other threads run, and nothing but the result needs memory, where `weight` is
    bf16, fp16 or fp32, row-major, writable, and its groups are whole; else it is copied.

    Args:
        weight: ``[out, in]`` of any float dtype; may be a view.
        bits: 8 or 4.
        group_size: inputs that share a scale; the last group may be shorter.

    Returns:
        Codes ``[out, in]`` int8 and scales ``[out, groups]`` fp32.

    Raises:
        UnquantizableError: a value is a NaN or an infinity, or too large for 4 bits.
    """
    out_features, in_features = weight.shape
    groups = -(-in_features // group_size)
    values = weight.view(np.uint16) if weight.dtype == ml_dtypes.bfloat16 else weight
    if values.dtype.name not in SOURCE_DTYPES:
        values = values.astype(np.float32)
    if missing := groups * group_size - in_features:
        values = np.pad(values, ((0, 0), (0, missing)))
    # DLPack, by which the kernel takes them, knows no read-only arrays.
    values = np.require(values, requirements=("C", "W")).reshape(-1, group_size)
    codes = np.empty(values.shape, np.int8)
    scales = np.empty(len(values), np.float32)
    _kernel(values.dtype.name, bits)(*map(tvm_ffi.from_dlpack, (values, codes, scales)))
    if not np.isfinite(scales).all():
        return round_to_nearest(weight, bits, group_size)  # which knows what to say
    codes = codes.reshape(out_features, groups * group_size)
    return codes[:, :in_features], scales.reshape(out_features, groups)


def _kernel(dtype: str, bits: int) -> Callable[..., None]:
    with _COMPILING:
        return _compiled(dtype, bits)


@cache
def _compiled(dtype: str, bits: int) -> Callable[..., None]:
    """Compile the kernel of a source dtype: 0.1 s, once a process."""
    target = make_target(f"tvm_vacc -mcpu={NATIVE}")
    kernel = round_to_nearest_kernel(dtype, bits, isa_of(target))
    module = tvm.IRModule({"kernel": kernel.with_attr("global_symbol", "kernel")})
    function: Callable[..., None] = tvm.compile(module, target=target, tir_pipeline=NAME)["kernel"]
    return function
