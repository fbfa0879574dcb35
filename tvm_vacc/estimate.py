"""What a compile will need, said before any work is done: bytes to read, to keep, to hold."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from relay_passes.weight_plan import Kind
from schedules.kv_cache import position_bytes
from schedules.linear_float import BLOCK
from tvm_vacc.artifact.manifest import StoredWeights
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
from tvm_vacc.model_format import GRAPH_FORMATS
from tvm_vacc.quantize.scheme import ROUND_TO_NEAREST, W8A16, Quantization, Scheme
from tvm_vacc.steps.stored_codes import with_stored_codes
from tvm_vacc.steps.weight_stream import SLICE_BYTES

HEAD = "lm_head.weight"
"""The checkpoint's name for the last linear."""

COMPILE_SECONDS, LAYER_SECONDS = 25.0, 1.0
"""Graph, passes and kernels: of any GLM, and of each layer more."""

WEIGHT_BYTES_A_SECOND = 300e6
"""Of the checkpoint: read, packed or widened, and written by one worker."""

PRODUCTS_A_SECOND, TORCH_SECONDS, TORCH_BYTES = 80e9, 8.0, 900 << 20
"""Of the reference in fp32 on two cores; until torch and transformers are imported."""


@dataclass(frozen=True)
class Estimate:
    """Sizes in bytes.

    Attributes:
        read: of the checkpoint.
        weights: of the packed weights, on disk and, mapped, in memory.
        kv_token: of the KV cache, a token; 0 for a graph.
        memory: that the compiler takes at its peak.
        storage: what the weights become, those alike together, largest first; of a graph nothing,
            since its passes decide.
        numbers: in all weights.
        layers: of a language model; 0 for a graph.
        largest_layer: numbers in the layer, or in the part of the head, that has most.
    """

    read: int
    weights: int
    kv_token: int
    memory: int
    storage: tuple[StoredWeights, ...] = ()
    numbers: int = 0
    layers: int = 0
    largest_layer: int = 0

    @property
    def seconds(self) -> float:
        """What compiling takes on two cores, passport and calibration aside."""
        return COMPILE_SECONDS + LAYER_SECONDS * self.layers + self.read / WEIGHT_BYTES_A_SECOND

    def reference_seconds(self, tokens: int) -> float:
        """What the reference takes for so many tokens, reading the weights included."""
        products = 2 * self.numbers * tokens / PRODUCTS_A_SECOND
        return TORCH_SECONDS + products + self.read / WEIGHT_BYTES_A_SECOND

    @property
    def reference_memory(self) -> int:
        """What the reference takes at its peak: a layer in fp32, and torch."""
        return TORCH_BYTES + 4 * self.largest_layer


def estimate(options: CompileOptions) -> Estimate:
    """Return what compiling will need; only headers are read.

    Raises:
        CheckpointError: the checkpoint is damaged.
        OnnxError: the graph is.
    """
    kv_token = layers = 0
    if options.type in GRAPH_FORMATS:
        return _of_file(options)
    if options.type == "onnx":
        tensors = external_tensors(load_onnx(options.checkpoint), options.checkpoint)
    else:
        checkpoint = open_checkpoint(options.checkpoint)
        options = with_stored_codes(options, checkpoint.stored)
        tensors = checkpoint.tensors
        spec = checkpoint.spec
        how = options.quantization
        kv_dtype = "int8" if how is not None and how.kv8 else options.relax_dtype
        kv_token = spec.layers * position_bytes(spec.kv_heads, spec.head_dim, kv_dtype)
        layers = spec.layers
    stored = {name: _stored(name, ref, options) for name, ref in tensors.items()}
    return Estimate(
        read=sum(ref.nbytes for ref in tensors.values()),
        weights=sum(_aligned(weights.bytes) for weights in stored.values()),
        kv_token=kv_token,
        memory=COMPILER_BYTES + 4 * (options.workers + 1) * SLICE_BYTES,
        storage=_alike(stored.values()) if layers else (),
        numbers=sum(weights.weights for weights in stored.values()),
        layers=layers,
        largest_layer=_largest_layer(stored),
    )


def _of_file(options: CompileOptions) -> Estimate:
    """Return what a file of a graph needs, weights inside: they take at most what it does."""
    size = options.checkpoint.stat().st_size
    memory = COMPILER_BYTES + 4 * (options.workers + 1) * SLICE_BYTES + size
    return Estimate(read=size, weights=size, kv_token=0, memory=memory)


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


def _alike(weights: Iterable[StoredWeights]) -> tuple[StoredWeights, ...]:
    """Put together what is of one kind and stored alike."""
    together: dict[tuple[object, ...], StoredWeights] = {}
    for one in weights:
        key = (one.kind, one.stored_as, one.quantizer, one.group_size)
        sums = together.get(key)
        together[key] = (
            one
            if sums is None
            else replace(
                sums,
                matrices=sums.matrices + one.matrices,
                weights=sums.weights + one.weights,
                bytes=sums.bytes + one.bytes,
            )
        )
    return tuple(sorted(together.values(), key=lambda stored: -stored.bytes))


def _largest_layer(stored: Mapping[str, StoredWeights]) -> int:
    layers: dict[str, int] = {}
    for name, weights in stored.items():
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        if name.startswith("model.layers.") and rest:
            layers[layer] = layers.get(layer, 0) + weights.weights
    return max(layers.values(), default=0)


def _stored(name: str, ref: TensorRef, options: CompileOptions) -> StoredWeights:
    """Return what one tensor becomes: vectors fp32, matrices whole blocks of channels."""
    rows, *rest = ref.shape or (1,)
    columns = prod(rest)
    how = options.quantization
    itemsize = NUMPY_DTYPES[options.relax_dtype].itemsize
    kind: Kind = "other"
    scheme: Scheme | None = None
    if not rest:
        nbytes = 4 * rows
    elif name == EMBEDDING:
        kind = "embedding"
        scheme = W8A16 if how is not None and how.embedding else None
        nbytes = rows * (columns * itemsize if scheme is None else columns + 4)
    else:
        kind = "head" if name == HEAD else "linear"
        scheme = None if how is None else how.head if name == HEAD else how.scheme
        channels = -(-rows // BLOCK) * BLOCK
        if how is None or scheme is None:
            nbytes = channels * columns * itemsize
        else:
            scales = 4 * scheme.groups(columns, how.group_size)
            nbytes = channels * (columns * scheme.weight_bits // 8 + scales)
    grouped = how is not None and scheme is not None and scheme.weight_bits < 8
    return StoredWeights(
        kind=kind,
        stored_as=scheme.name if scheme else options.dtype if rest else "fp32",
        quantizer=_quantizer(kind, how) if how is not None and scheme else "",
        group_size=how.group_size if how is not None and grouped else 0,
        matrices=1,
        weights=rows * columns,
        bytes=nbytes,
    )


def _aligned(nbytes: int) -> int:
    return -(-nbytes // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT


def _quantizer(kind: Kind, how: Quantization) -> str:
    return how.quantizer if kind == "linear" else ROUND_TO_NEAREST
