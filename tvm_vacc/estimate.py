"""What a compile will need, said before any work is done: bytes to read, to keep, to hold."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from schedules.kv_cache import position_bytes
from tvm_vacc.artifact.manifest import StoredWeights
from tvm_vacc.cache.store import DIRECTORY, WEIGHTS
from tvm_vacc.config import CompileOptions
from tvm_vacc.errors import ArtifactError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.onnx_external_data import external_tensors
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.limits import CALIBRATION_MEMORY_BYTES, COMPILER_BYTES, WEIGHT_ALIGNMENT
from tvm_vacc.model_format import GRAPH_FORMATS
from tvm_vacc.planned_storage import Storage, alike, largest_layer, refuse_what_has_no_codes
from tvm_vacc.quantize.scheme import GPTQ
from tvm_vacc.steps.stored_codes import with_stored_codes
from tvm_vacc.steps.weight_stream import SLICE_BYTES

COMPILE_SECONDS, LAYER_SECONDS = 25.0, 1.0
"""Graph, passes and kernels: of any GLM, and of each layer more."""

WEIGHT_BYTES_A_SECOND = 300e6
"""Of the checkpoint: read, packed or widened, and written by one worker."""

PRODUCTS_A_SECOND, TORCH_SECONDS, TORCH_BYTES = 80e9, 8.0, 900 << 20
"""Of the reference in fp32 on two cores; until torch and transformers are imported."""

FACTOR_PRODUCTS, CODE_PRODUCTS = 4 / 3, 5
"""Of GPTQ: operations on a Hessian, over ``in ** 3``, and on a weight, over ``out * in ** 2``."""


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
        calibrated: shapes ``[out, in]`` of the matrices that GPTQ quantises.
        hidden: numbers of a token between the layers.
    """

    read: int
    weights: int
    kv_token: int
    memory: int
    storage: tuple[StoredWeights, ...] = ()
    numbers: int = 0
    layers: int = 0
    largest_layer: int = 0
    calibrated: tuple[tuple[int, int], ...] = ()
    hidden: int = 0

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

    def calibration_seconds(self, tokens: int) -> float:
        """What GPTQ takes on two cores for so many tokens.

        The layers run twice: once for the Hessians, once through the linears that are quantised.
        Each linear counts a Hessian of its own, though queries, keys and values share theirs.
        """
        products = 4.0 * self.numbers * tokens
        for out, into in self.calibrated:
            products += 2.0 * tokens * into**2 + FACTOR_PRODUCTS * into**3
            products += float(CODE_PRODUCTS) * out * into**2
        reading = self.read / WEIGHT_BYTES_A_SECOND
        return TORCH_SECONDS + reading + products / PRODUCTS_A_SECOND

    def calibration_memory(self, tokens: int) -> int:
        """What GPTQ takes at its peak: see `tvm_vacc.calibration.run.calibrate`."""
        states = min(4 * tokens * self.hidden, CALIBRATION_MEMORY_BYTES)
        linear = max((5 * into**2 + 2 * out * into for out, into in self.calibrated), default=0)
        return self.reference_memory + states + 4 * linear


def estimate(options: CompileOptions, linears: str = "") -> Estimate:
    """Return what compiling will need; only headers are read.

    Args:
        options: what the user asked for.
        linears: what linears that are not quantised are stored as, if not as `backend.dtype`.

    Raises:
        CheckpointError: the checkpoint is damaged.
        ConfigError: a matrix does not fit the scheme that is asked for.
        OnnxError: the graph is.
    """
    kv_token = layers = hidden = 0
    codes: dict[str, StoredCodes] = {}
    if options.type in GRAPH_FORMATS:
        return _of_file(options)
    if options.type == "onnx":
        tensors = external_tensors(load_onnx(options.checkpoint), options.checkpoint)
    else:
        checkpoint = open_checkpoint(options.checkpoint)
        codes = checkpoint.stored
        options = with_stored_codes(options, codes)
        tensors = checkpoint.tensors
        spec = checkpoint.spec
        how = options.quantization
        kv_dtype = "int8" if how is not None and how.kv8 else options.relax_dtype
        kv_token = spec.layers * position_bytes(spec.kv_heads, spec.head_dim, kv_dtype)
        layers, hidden = spec.layers, spec.hidden
    groups = {name: matrix.group_size for name, matrix in codes.items()}
    stored = Storage(options, linears or options.relax_dtype, groups).of(tensors)
    if layers:
        refuse_what_has_no_codes(tensors, stored)
    return Estimate(
        read=sum(ref.nbytes for ref in tensors.values()),
        weights=sum(_aligned(weights.bytes) for weights in stored.values()),
        kv_token=kv_token,
        memory=COMPILER_BYTES + 4 * (options.workers + 1) * SLICE_BYTES,
        storage=alike(stored.values()) if layers else (),
        numbers=sum(weights.weights for weights in stored.values()),
        layers=layers,
        largest_layer=largest_layer(stored),
        calibrated=tuple(
            (tensors[name].shape[0], tensors[name].shape[1])
            for name, weights in stored.items()
            if weights.quantizer == GPTQ and name in tensors
        ),
        hidden=hidden,
    )


def _aligned(nbytes: int) -> int:
    return -(-nbytes // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT


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
