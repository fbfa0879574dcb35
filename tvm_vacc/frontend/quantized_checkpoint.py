"""Checkpoints that are quantised already: which of their matrices are codes, in which format."""

from __future__ import annotations

from collections.abc import Mapping

from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.config_reader import ConfigReader
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.frontend.quantized_checkpoint_compressed import CompressedTensors
from tvm_vacc.frontend.quantized_checkpoint_gptq import Gptq
from tvm_vacc.frontend.tensor_ref import TensorRef

SECTION = "quantization_config"
"""The key of config.json that tells how a checkpoint is quantised."""

_FORMATS: dict[str, type[Gptq] | type[CompressedTensors]] = {
    "gptq": Gptq,
    "compressed-tensors": CompressedTensors,
}


def take_codes(
    config: ConfigReader, stored: Mapping[str, TensorRef], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, StoredCodes], dict[str, TensorRef]]:
    """Take apart what a checkpoint stores: matrices that are codes, and tensors as they are.

    Zero points, orders and biases that change nothing are left out. They are read for that: half
    a percent of the checkpoint.

    Args:
        config: config.json.
        stored: the tensors of the files, by name.
        shapes: of the model's tensors, by name.

    Returns:
        The codes by the names of the matrices, and the other tensors by name.

    Raises:
        CheckpointError: the format is not supported, or the files contradict it.
    """
    if not config.has(SECTION):
        return {}, dict(stored)
    section = config.section(SECTION)
    method = section.text("quant_method")
    if method not in _FORMATS:
        raise section.fault("quant_method", " or ".join(f'"{known}"' for known in _FORMATS))
    found = _FORMATS[method].from_config(section)
    codes: dict[str, StoredCodes] = {}
    taken: set[str] = set()
    for module in _modules(stored, found.mark):
        names = {f"{module}.{last}": last for last in found.names}
        tensors = {last: stored[name] for name, last in names.items() if name in stored}
        shape = shapes.get(f"{module}.weight", ())
        if len(shape) != 2:
            ref = tensors[found.mark]
            raise CheckpointError(f"{ref.file}: {ref.name} is no tensor of this model")
        matrix = found.matrix(module, tensors, (shape[0], shape[1]))
        codes[matrix.name] = matrix
        taken |= names.keys()
        bias = f"{module}.bias"  # AutoGPTQ gives every module one
        if bias in stored and bias not in shapes and not stored[bias].read().any():
            taken.add(bias)
    if not codes:
        raise CheckpointError(
            f"{config.path}: {SECTION} tells of {method}, and no tensor is quantised",
            f"remove {SECTION} from config.json, or download the quantised files",
        )
    return codes, {name: ref for name, ref in stored.items() if name not in taken}


def _modules(stored: Mapping[str, TensorRef], mark: str) -> list[str]:
    """Return the modules that have a tensor of the last name `mark`."""
    return [name.removesuffix(f".{mark}") for name in stored if name.endswith(f".{mark}")]
