"""Makes the weights of the artefact of the model's tensors: reads, quantises, packs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod

import numpy as np

from relay_passes.weight_plan import (
    CODES,
    LINEAR,
    LINEAR_INT4,
    LINEAR_INT8,
    LINEAR_INT8_SUMS,
    Kind,
    PackedWeight,
    Source,
    tensors_of,
)
from schedules.linear_float import pack_linear_weight
from schedules.linear_int4 import pack_linear_int4
from schedules.linear_int8 import pack_linear_int8
from tvm_vacc.artifact.manifest import StoredWeights
from tvm_vacc.config import RELAX_DTYPES
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.limits import FP16_MAX
from tvm_vacc.quantize.round_to_nearest import UnquantizableError
from tvm_vacc.quantize.scheme import ROUND_TO_NEAREST, SCHEMES
from tvm_vacc.steps.round_weights import round_weights

Quantizer = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
"""``(weight [out, in], bits, group_size) -> codes [out, in] int8, scales [out, groups] fp32``."""

QUANTIZERS: dict[str, Quantizer] = {ROUND_TO_NEAREST: round_weights}
"""What chooses codes, by the name in the plan."""


_FP16_ROUNDING = np.float32(2.0**-11)
"""Largest relative error of rounding to fp16, where it has its full precision."""

_SHORT_NAMES = {relax: short for short, relax in RELAX_DTYPES.items()}


def pack_weight(weight: PackedWeight, sources: Mapping[str, TensorRef]) -> tuple[np.ndarray, ...]:
    """Read the sources of `weight` and return its tensors, in their dtypes and layout.

    The memory needed is that of the sources and of the result, and for codes once more the
    codes. NumPy releases the lock: threads may make several weights at once.

    Of a weight with one source that is not transposed, 64 n rows make the n blocks of these rows:
    a tensor that is too large for memory may be made piece by piece.

    Raises:
        CheckpointError: a value does not fit the range of fp16, or is not finite where it is to
            be quantised.
    """
    if weight.quantized is not None:
        return _packed_codes(weight, *_codes(weight, sources))
    [made] = weight.tensors
    array = _joined(weight.sources, sources, check_fp16=made.dtype == "float16")
    if weight.layout == LINEAR:
        return (pack_linear_weight(array, made.dtype),)
    return (array.astype(NUMPY_DTYPES[made.dtype], copy=False),)


def storage_report(
    plan: Iterable[PackedWeight], sources: Mapping[str, TensorRef]
) -> tuple[StoredWeights, ...]:
    """Return what the weights of `plan` are stored as, those alike together, largest first."""
    alike: dict[tuple[Kind, str, str, int], list[PackedWeight]] = {}
    for weight in plan:
        how = weight.quantized
        dtype = weight.tensors[0].dtype
        stored_as = _SHORT_NAMES.get(dtype, dtype) if how is None else how.scheme
        quantizer = "" if how is None else how.quantizer
        grouped = how is not None and SCHEMES[how.scheme].weight_bits < 8
        group_size = how.group_size if how is not None and grouped else 0
        alike.setdefault((weight.kind, stored_as, quantizer, group_size), []).append(weight)
    report = [
        StoredWeights(
            *key,
            matrices=sum(len(weight.sources) for weight in weights),
            weights=sum(prod(sources[s.name].shape) for w in weights for s in w.sources),
            bytes=sum(tensor.nbytes for tensor in tensors_of(weights)),
        )
        for key, weights in alike.items()
    ]
    return tuple(sorted(report, key=lambda stored: -stored.bytes))


def _codes(weight: PackedWeight, sources: Mapping[str, TensorRef]) -> tuple[np.ndarray, np.ndarray]:
    """Quantise; the sources' memory is free when this returns."""
    how = weight.quantized
    assert how is not None
    if weight.scales:
        return _stored_codes(weight, sources)
    quantize, bits = QUANTIZERS[how.quantizer], SCHEMES[how.scheme].weight_bits
    try:
        return quantize(_joined(weight.sources, sources), bits, how.group_size)
    except UnquantizableError as problem:
        files = ", ".join(sorted({str(sources[name].file) for name in weight.reads}))
        raise CheckpointError(
            f"{files}: {weight.name} holds {problem}",
            "a weight that is not finite cannot be quantised: download or convert it again",
        ) from problem


def _stored_codes(
    weight: PackedWeight, sources: Mapping[str, TensorRef]
) -> tuple[np.ndarray, np.ndarray]:
    """Read codes and scales that were chosen before."""
    codes = _joined(weight.sources, sources)
    scales = _joined(weight.scales, sources).astype(np.float32)
    if scales.ndim < 2:  # one number, or one a channel
        scales = np.broadcast_to(scales.reshape(-1, 1), (len(codes), 1))
    how = weight.quantized
    assert how is not None
    scheme = SCHEMES[how.scheme]
    if fault := _fault(codes, scales, scheme.weight_bits):
        files = ", ".join(sorted({str(sources[name].file) for name in weight.reads}))
        raise CheckpointError(
            f"{files}: {weight.name} holds {fault}", "download the file or quantise it again"
        )
    groups = scheme.groups(codes.shape[1], how.group_size)
    return codes, np.broadcast_to(scales, (len(codes), groups))


def _fault(codes: np.ndarray, scales: np.ndarray, bits: int) -> str:
    """Return what the kernels cannot hold of codes and scales; empty where they can."""
    if codes.dtype != np.int8:
        return f"codes of {codes.dtype}, which must be int8"
    if not np.isfinite(scales).all():
        return "a scale that is not finite"
    if bits == 8:
        return ""
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if low < -8 or high > 7:
        return f"codes from {low} to {high}, and those of 4 bits end at -8 and 7"
    with np.errstate(over="ignore"):
        error = np.abs(scales.astype(np.float16).astype(np.float32) - scales)
    # What counts is the error beside the channel's other weights: scales of zeros may be tiny.
    if (error > np.abs(scales).max(axis=1, keepdims=True) * _FP16_ROUNDING).any():
        return "a scale beyond fp16, as which those of 4 bits are stored"
    return ""


def _packed_codes(
    weight: PackedWeight, codes: np.ndarray, scales: np.ndarray
) -> tuple[np.ndarray, ...]:
    if weight.layout == LINEAR_INT8:
        return pack_linear_int8(codes), scales[:, 0].copy()
    if weight.layout == LINEAR_INT8_SUMS:
        return pack_linear_int8(codes), scales[:, 0].copy(), codes.sum(axis=1, dtype=np.int32)
    if weight.layout == LINEAR_INT4:
        assert weight.quantized is not None
        return pack_linear_int4(codes, scales, weight.quantized.group_size)
    assert weight.layout == CODES, weight.layout
    return codes, scales


def _joined(
    parts: tuple[Source, ...], sources: Mapping[str, TensorRef], *, check_fp16: bool = False
) -> np.ndarray:
    """Read `parts`, one below the other."""
    arrays = []
    for part in parts:
        source = sources[part.name]
        array = source.read()
        if check_fp16 and source.dtype != "float16":
            _check_fp16_range(array, source)
        arrays.append(array.T if part.transposed else array)
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _check_fp16_range(array: np.ndarray, source: TensorRef) -> None:
    largest = float(np.max(np.abs(array), initial=0))
    if largest > FP16_MAX:
        raise CheckpointError(
            f"{source.file}: {source.name} holds {largest:g}, fp16 ends at {FP16_MAX:g}",
            "compile with backend.dtype: bf16",
        )
