"""What `frontend.quantize` means for a checkpoint that is quantised already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from relay_passes.quantize_linears import StoredMatrix
from relay_passes.weight_plan import Source
from tvm_vacc.config import CompileOptions
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.quantize.scheme import (
    ROUND_TO_NEAREST,
    STORED,
    W4A16,
    W8A16,
    Quantization,
)


def with_stored_codes(options: CompileOptions, stored: Mapping[str, StoredCodes]) -> CompileOptions:
    """Return `options` with the scheme that the codes of a checkpoint have.

    Without `frontend.quantize` activations are floats. With it, its type must be of the same
    bits: `w8a8` takes the codes of a checkpoint of 8 bits too. Head and embedding have their keys.

    Args:
        options: what the user asked for.
        stored: the matrices that are quantised, by name; none in most checkpoints.

    Raises:
        ConfigError: the type asks for other codes than there are.
    """
    if not stored:
        return options
    first = next(iter(stored.values()))
    wanted, scheme = options.quantization, W8A16 if first.bits == 8 else W4A16
    if wanted is None:
        wanted = Quantization(scheme.name, scheme, STORED, 0, head=None, embedding=False)
    elif wanted.scheme is None:  # only the KV cache is to be quantised
        wanted = replace(wanted, type=f"{scheme.name}_kv8", scheme=scheme)
    elif wanted.scheme.weight_bits != first.bits or wanted.quantizer != ROUND_TO_NEAREST:
        raise ConfigError(
            f"frontend.quantize.type: {wanted.type} asks for codes to be made, and "
            f"{options.checkpoint} holds codes of {first.bits} bits already",
            "leave frontend.quantize out, or give the checkpoint that is not quantised",
        )
    chosen = replace(wanted, quantizer=STORED, group_size=first.group_size)
    return replace(options, quantization=chosen)


def stored_matrices(stored: Mapping[str, StoredCodes]) -> tuple[StoredMatrix, ...]:
    """Return what `quantize_linears` needs to know of the codes of a checkpoint."""
    return tuple(
        StoredMatrix(matrix.name, Source(matrix.scales.name, matrix.transposed), matrix.group_size)
        for matrix in stored.values()
    )
