"""Operators whose sizes are inputs of the model, and convolutions of integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.frontend.onnx_files import assert_equals_onnx_runtime, value, write

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5), dtype=np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def check(
    path: Path, kind: str, inputs: list[Any], outputs: tuple[str, ...] = ("float32",), **attrs: Any
) -> None:
    """Hold a node, all of whose inputs are the model's, against ONNX Runtime.

    Args:
        path: where the model is written; the first dimension of its first input is open.
        kind: the operator type.
        inputs: arrays; None for one that is left out.
        outputs: their dtypes.
        attrs: of the node.
    """
    given = {f"x{index}": array for index, array in enumerate(inputs) if array is not None}
    names = [name if name in given else "" for name in (f"x{i}" for i in range(len(inputs)))]
    results = [f"y{index}" for index in range(len(outputs))]
    node = helper.make_node(kind, names, results, **attrs)
    shapes = {name: list(array.shape) for name, array in given.items()}
    shapes["x0"][0] = "n"

    def dtype(name: str) -> int:
        return helper.np_dtype_to_tensor_dtype(np.dtype(name))

    write(
        path,
        [node],
        [value(name, shapes[name], dtype(array.dtype.name)) for name, array in given.items()],
        [value(name, None, dtype(kind)) for name, kind in zip(results, outputs, strict=True)],
    )
    assert_equals_onnx_runtime(path, given, atol=1e-6)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(tmp_path: Path, mode: str) -> None:
    amount = np.array(0.5, np.float32) if mode == "constant" else None
    check(tmp_path / "m.onnx", "Pad", [X, whole(1, 0, 2, 3), amount], mode=mode)


def test_pad_of_some_axes_that_also_cuts(tmp_path: Path) -> None:
    check(tmp_path / "m.onnx", "Pad", [X, whole(-1, 2), None, whole(-1)])


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(tmp_path: Path, largest: int) -> None:
    outputs = ("float32", "int64")
    check(tmp_path / "m.onnx", "TopK", [X, whole(3)], outputs, axis=0, largest=largest)


def test_split(tmp_path: Path) -> None:
    check(tmp_path / "m.onnx", "Split", [X, whole(1, 0, 4)], ("float32",) * 3, axis=1)


@pytest.mark.parametrize("axis", [-1, 0])
def test_one_hot(tmp_path: Path, axis: int) -> None:
    inputs = [whole(0, 3, -1, 9), whole(5), np.array([2, 7], np.float32)]
    check(tmp_path / "m.onnx", "OneHot", inputs, axis=axis)


@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(tmp_path: Path, upper: int) -> None:
    check(tmp_path / "m.onnx", "Trilu", [X, np.array(-1, np.int64)], upper=upper)


def codes(dtype: str, *shape: int) -> np.ndarray:
    return RNG.integers(0, 120, shape).astype(dtype)


def test_conv_integer(tmp_path: Path) -> None:
    inputs = [
        codes("uint8", 2, 4, 6, 6),
        codes("uint8", 6, 2, 3, 3),
        codes("uint8"),
        codes("uint8"),
    ]
    check(tmp_path / "m.onnx", "ConvInteger", inputs, ("int32",), group=2, pads=[1, 1, 0, 0])


@pytest.mark.parametrize("channels", [(), (6,)])
def test_qlinear_conv(tmp_path: Path, channels: tuple[int, ...]) -> None:
    scale = np.array(0.1, np.float32)
    inputs = [
        *(codes("uint8", 2, 4, 6, 6), scale, codes("uint8")),
        *(codes("int8", 6, 4, 3, 3), np.full(channels, 0.1, np.float32)),
        *(np.zeros(channels, np.int8), np.array(37.0, np.float32), codes("uint8")),
        RNG.integers(-999, 999, 6).astype(np.int32),
    ]
    check(tmp_path / "m.onnx", "QLinearConv", inputs, ("uint8",), strides=[2, 2])
