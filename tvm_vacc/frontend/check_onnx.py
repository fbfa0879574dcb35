"""Checks an exported GLM: valid ONNX, weights where it says, inputs and outputs by contract."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import TensorProto
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.glm_signature import IDS, LOGITS, past_names, present_names
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.onnx_external_data import external_tensors

_EXPORT_AGAIN = "export the model again"
_MESSAGE_CHARS = 400

_Dim = str | int
_Type = tuple[int, tuple[_Dim, ...]]
_ANY_SIZE = "any size"


def check_onnx(path: str | Path, quantized: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """Check the ONNX file of a GLM that `export_onnx` has written.

    It must hold what docs/architecture.md says: `input_ids` and `position_ids` `[batch, seq]`
    int64, key and value of each layer's past `[batch, kv_heads, past, head_dim]` fp32; `logits`
    `[batch, seq, vocab]` and the presents `[batch, kv_heads, past+seq, head_dim]` fp32. Its
    external data must be there, in range, and in or below its directory. onnx.checker must accept
    it, shape inference included.

    Args:
        path: the file.
        quantized: shapes of the matrices that are quantised, by name: inputs in fp32.

    Raises:
        OnnxError: any of it is not so; the message names the file and the tensor or node.
    """
    path = Path(path)
    model = load_onnx(path)
    _check_signature(model.graph, path, quantized or {})
    files = {ref.file for ref in external_tensors(model, path).values()}
    _run_checker(path, files)


def _check_signature(
    graph: onnx.GraphProto, path: Path, quantized: Mapping[str, tuple[int, ...]]
) -> None:
    inputs = {value.name: _type_of(value) for value in graph.input}
    outputs = {value.name: _type_of(value) for value in graph.output}
    layers = max((len(inputs) - len(IDS) - len(quantized)) // 2, 1)
    cache = inputs.get(past_names(layers)[0], (0, ()))[1]
    kv_heads, head_dim = (cache[1], cache[3]) if len(cache) == 4 else (_ANY_SIZE, _ANY_SIZE)
    ids: _Type = (TensorProto.INT64, ("batch", "seq"))
    logits: _Type = (TensorProto.FLOAT, ("batch", "seq", _ANY_SIZE))
    past: _Type = (TensorProto.FLOAT, ("batch", kv_heads, "past", head_dim))
    present: _Type = (TensorProto.FLOAT, ("batch", kv_heads, "past+seq", head_dim))
    wanted_inputs = dict.fromkeys(IDS, ids) | dict.fromkeys(past_names(layers), past)
    wanted_inputs |= {name: (TensorProto.FLOAT, shape) for name, shape in quantized.items()}
    wanted_outputs = {LOGITS: logits} | dict.fromkeys(present_names(layers), present)
    _compare(inputs, wanted_inputs, f"{path}: input")
    _compare(outputs, wanted_outputs, f"{path}: output")


def _type_of(value: onnx.ValueInfoProto) -> _Type:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)


def _compare(found: dict[str, _Type], wanted: dict[str, _Type], where: str) -> None:
    for name in wanted:
        if name not in found:
            raise OnnxError(f"{where} {name} is missing", _EXPORT_AGAIN)
    for name, (dtype, dims) in found.items():
        if name not in wanted:
            raise OnnxError(f"{where} {name} is not part of a GLM", _EXPORT_AGAIN)
        wanted_dtype, wanted_dims = wanted[name]
        if dtype != wanted_dtype or not _fits(dims, wanted_dims):
            raise OnnxError(
                f"{where} {name} is {_spell(dtype, dims)},"
                f" it must be {_spell(wanted_dtype, wanted_dims)}",
                _EXPORT_AGAIN,
            )


def _fits(dims: tuple[_Dim, ...], wanted: tuple[_Dim, ...]) -> bool:
    """Whether each dimension is the wanted one; "any size" is a positive number."""
    return len(dims) == len(wanted) and all(
        isinstance(dim, int) and dim > 0 if want == _ANY_SIZE else dim == want
        for dim, want in zip(dims, wanted, strict=True)
    )


def _spell(dtype: int, dims: tuple[_Dim, ...]) -> str:
    return f"{TensorProto.DataType.Name(dtype)} [{', '.join(map(str, dims))}]"


def _run_checker(path: Path, files: Iterable[Path]) -> None:
    """Run onnx.checker on `path` beside empty files that stand in for the weights.

    The checker refuses linked weights, whatever is in them; that the real ones are there and long
    enough has been seen already. The stand-ins are as long and take no disk space.
    """
    with TemporaryDirectory() as scratch:
        for file in files:
            stand_in = scratch / file.relative_to(path.parent)
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            with stand_in.open("wb") as stream:
                stream.truncate(file.stat().st_size)
        copy = Path(scratch) / path.name
        shutil.copyfile(path, copy)
        try:
            onnx.checker.check_model(str(copy), full_check=True)
        except (ValidationError, InferenceError) as error:
            reason = str(error)[:_MESSAGE_CHARS]
            raise OnnxError(f"{path}: refused by onnx.checker: {reason}", _EXPORT_AGAIN) from None
