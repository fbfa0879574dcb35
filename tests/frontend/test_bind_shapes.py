from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from relay_passes.rewriter import shape_of, static
from tests.frontend.one_line import one_line_error
from tests.frontend.onnx_files import value, write
from tests.relay_passes.running import run_main
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.import_onnx import import_onnx


def product(path: Path) -> Path:
    """``x [n, k] @ w [k, m]``, then reshaped to ``[n, 2, m / 2]`` for whatever n is."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Reshape", ["p", "shape"], ["y"]),
    ]
    inputs = [value("x", ["n", "k"]), value("w", ["k", 6]), value("z", ["n", None])]
    nodes.append(helper.make_node("Relu", ["z"], ["r"]))
    outputs = [value("y", ["n", 2, 3]), value("r", ["n", None])]
    return write(path, nodes, inputs, outputs, {"shape": np.array([0, 2, 3])}, opset=18)


def shapes(path: Path, **bound: tuple[int, ...]) -> dict[str, list[int | None]]:
    """Static shapes of the imported inputs, None for a dimension that is symbolic."""
    main = import_onnx(path, input_shapes=bound, simplify=True).module["main"]
    return {param.name: [static(dim) for dim in shape_of(param)] for param in main.params}


def test_a_symbol_is_bound_wherever_it_stands(tmp_path: Path) -> None:
    path = product(tmp_path / "model.onnx")
    assert shapes(path, x=(1, 77)) == {"x": [1, 77], "w": [77, 6], "z": [1, None]}
    assert shapes(path, z=(5, 4), w=(7, 6)) == {"x": [5, 7], "w": [7, 6], "z": [5, 4]}
    assert shapes(path) == {"x": [None, None], "w": [None, 6], "z": [None, None]}
    assert shapes(path, x=(-1, 77)) == {"x": [None, 77], "w": [77, 6], "z": [None, None]}


def test_static_shapes_compute_the_same(tmp_path: Path) -> None:
    path = product(tmp_path / "model.onnx")
    module = import_onnx(path, input_shapes={"x": (3, 5), "z": (3, 2)}, simplify=True).module
    rng = np.random.default_rng(0)
    x, w, z = (rng.standard_normal(s, dtype=np.float32) for s in ((3, 5), (5, 6), (3, 2)))
    y, r = run_main(module, {"x": x, "w": w, "z": z})
    np.testing.assert_allclose(y, (x @ w).reshape(3, 2, 3), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(r, np.maximum(z, 0))
    assert [int(dim) for dim in module["main"].ret_ty.fields[0].shape] == [3, 2, 3]


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"y": (1, 2, 3)}, ("frontend.shape.y", "no such input", "x, w, z")),
        ({"x": (1, 2, 3)}, ("frontend.shape.x", "3 dimensions", "[n, k]")),
        ({"w": (5, 7)}, ("frontend.shape.w", "7 at axis 1", "[k, 6]")),
        ({"x": (1, 5), "w": (4, 6)}, ("frontend.shape.w", "makes k 4", "x makes it 5")),
        ({"shape": (3,)}, ("frontend.shape.shape", "no such input")),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, bound: dict[str, tuple[int, ...]], words: tuple[str, ...]
) -> None:
    path = product(tmp_path / "model.onnx")
    line = one_line_error(
        lambda: import_onnx(path, input_shapes=bound), names="model.onnx", kind=ConfigError
    )
    assert all(word in line for word in words)
