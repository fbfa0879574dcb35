"""Runs one case of ONNX's own test suite: the steps of a compile, with no artefact in between."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from onnx import TensorProto, numpy_helper
from tvm import relax

from relay_passes.bundle_params import ENTRY
from relay_passes.weight_plan import read_plan, tensors_of
from tvm_vacc.codegen.kernels import build_kernels
from tvm_vacc.frontend.import_onnx import import_onnx
from tvm_vacc.frontend.onnx_narrow_types import BYTES
from tvm_vacc.pipeline import graph_pipeline, run_pipeline
from tvm_vacc.runtime.tensors import to_numpy, to_tvm

_NUMPY = {TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}


def run_case(
    model: onnx.ModelProto,
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]],
    rtol: float,
    atol: float,
) -> None:
    """Compile `model` and hold its answers against those of the suite.

    Args:
        model: of one node, mostly.
        data_sets: inputs and outputs, in the order of the graph's.
        rtol: relative tolerance, as the suite gives it.
        atol: absolute tolerance, likewise.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        imported = import_onnx(path, simplify=True)
    module, _ = run_pipeline(imported.module, graph_pipeline("float32"))
    assert not tensors_of(read_plan(module[ENTRY])), "these models hold no weights"
    executable = build_kernels(module, tvm.target.Target("tvm_vacc"))
    forward = relax.VirtualMachine(executable, tvm.cpu())[ENTRY]
    for inputs, outputs in data_sets:
        arrays = dict(zip([value.name for value in model.graph.input], inputs, strict=True))
        arguments = [_argument(arrays[name]) for name in imported.inputs]
        result = forward(*arguments, tvm.runtime.convert([]))
        results = list(result) if len(model.graph.output) > 1 else [result]
        for got, want in zip(results, outputs, strict=True):
            _assert_equal(got, _array(want), rtol, atol)


def _array(value: Any) -> Any:
    """Return a tensor as we hold it: what has 8 bits and less and no dtype of NumPy, in bytes."""
    if not isinstance(value, onnx.TensorProto):
        return value
    array = numpy_helper.to_array(value)
    held = BYTES.get(value.data_type)
    if held is None:
        return array
    return (
        array.view(np.uint8)
        if "float" in array.dtype.name
        else array.astype(np.dtype(_NUMPY[held]))
    )


def _argument(value: Any) -> Any:
    value = _array(value)
    if isinstance(value, list):
        return [to_tvm(np.asarray(item)) for item in value]
    return to_tvm(np.asarray(value))


def _assert_equal(got: Any, want: Any, rtol: float, atol: float) -> None:
    if isinstance(want, list):
        for one, other in zip(list(got), want, strict=True):
            _assert_equal(one, other, rtol, atol)
        return
    array = to_numpy(got)
    want = np.asarray(want)
    assert (array.dtype, array.shape) == (want.dtype, want.shape)
    if want.dtype.kind in "fc" or want.dtype.name == "bfloat16":
        kind = np.complex128 if want.dtype.kind == "c" else np.float64
        if want.dtype.name == "bfloat16":
            rtol = max(rtol, 2**-6)  # two units in the last place, as ONNX's own runner has it
        array, want = array.astype(kind), want.astype(kind)
        np.testing.assert_allclose(array, want, rtol=rtol, atol=atol)
    else:
        np.testing.assert_array_equal(array, want)
