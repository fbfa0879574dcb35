"""What a compile will need, said before any work is done: bytes to read, to keep, to hold."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path

from schedules.linear_float import BLOCK
from tvm_vacc.cache.store import DIRECTORY, WEIGHTS
from tvm_vacc.config import CompileOptions
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import ArtifactError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.glm_layout import EMBEDDING
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.onnx_external_data import external_tensors
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.limits import COMPILER_BYTES, WEIGHT_ALIGNMENT
from tvm_vacc.weight_stream import SLICE_BYTES

HEAD = "lm_head.weight"
"""The checkpoint's name for the last linear."""


@dataclass(frozen=True)
class Estimate:
    """Sizes in bytes.

    Attributes:
        read: of the checkpoint.
        weights: of the packed weights, on disk and, mapped, in memory.
        kv_token: of the KV cache, a token; 0 for a graph.
        memory: that the compiler takes at its peak.
    """

    read: int
    weights: int
    kv_token: int
    memory: int


def estimate(options: CompileOptions) -> Estimate:
    """Return what compiling will need; only headers are read.

    Raises:
        CheckpointError: the checkpoint is damaged.
        OnnxError: the graph is.
    """
    kv_token = 0
    if options.type == "onnx":
        tensors = external_tensors(load_onnx(options.checkpoint), options.checkpoint)
    else:
        checkpoint = open_checkpoint(options.checkpoint)
        tensors = checkpoint.tensors
        spec = checkpoint.spec
        values = 2 * spec.layers * spec.kv_heads * spec.head_dim
        kv_token = values * NUMPY_DTYPES[options.relax_dtype].itemsize
    weights = sum(_stored_bytes(name, ref, options) for name, ref in tensors.items())
    return Estimate(
        read=sum(ref.nbytes for ref in tensors.values()),
        weights=weights,
        kv_token=kv_token,
        memory=COMPILER_BYTES + 4 * (options.workers + 1) * SLICE_BYTES,
    )


def require_room(needed: Estimate, parent: Path) -> None:
    """Refuse a disk without the room for the weights, before the work that leads to them.

    What the cache holds counts as room: these may be the weights, or the begin of them.

    Raises:
        ArtifactError: there is less room than they need.
    """
    cached = (parent / DIRECTORY / WEIGHTS).glob("*/*.safetensors")
    free = shutil.disk_usage(parent).free + sum(path.stat().st_size for path in cached)
    if free < needed.weights:
        message = (
            f"{parent}: the weights need {needed.weights >> 20} MiB, {free >> 20} MiB are free"
        )
        raise ArtifactError(message, "free some space or choose another disk")


def _stored_bytes(name: str, ref: TensorRef, options: CompileOptions) -> int:
    """Return what the packed form takes: vectors are fp32, matrices whole blocks of channels."""
    rows, *rest = ref.shape
    columns = prod(rest)
    how = options.quantization
    itemsize = NUMPY_DTYPES[options.relax_dtype].itemsize
    if not rest:
        nbytes = 4 * rows
    elif name == EMBEDDING:
        quantized = how is not None and how.embedding
        nbytes = rows * (columns + 4 if quantized else columns * itemsize)
    else:
        scheme = None if how is None else how.head if name == HEAD else how.scheme
        channels = -(-rows // BLOCK) * BLOCK
        if how is None or scheme is None:
            nbytes = channels * columns * itemsize
        else:
            scales = 4 * scheme.groups(columns, how.group_size)
            nbytes = channels * (columns * scheme.weight_bits // 8 + scales)
    return -(-nbytes // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT
