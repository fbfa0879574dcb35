from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tvm_vacc.artifact.manifest import TensorSpec
from tvm_vacc.errors import RequestError
from tvm_vacc.runtime.fill import fill_inputs

X = TensorSpec("x", ("batch", 3), "float32")
MASK = TensorSpec("mask", ("batch", 2), "bool")


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int64", "bool"]
)
@pytest.mark.parametrize("mode", ["random", "zeros", "ones"])
def test_every_dtype_and_mode(dtype: str, mode: str) -> None:
    [array] = fill_inputs([TensorSpec("x", (50, 2), dtype)], {}, mode, {}).values()
    assert array.shape == (50, 2)
    assert array.dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype))
    values = array.astype(np.float64)
    if mode == "random":
        assert len(np.unique(values)) > 1
        assert values.min() >= 0
        assert values.max() <= (127 if "int8" in dtype else 1)
    else:
        assert (values == (mode == "ones")).all()


def test_random_is_the_same_every_time_but_not_in_every_input() -> None:
    specs = [TensorSpec("a", (9,), "float32"), TensorSpec("b", (9,), "float32")]
    first, second = (fill_inputs(specs, {}, "random", {}) for _ in range(2))
    np.testing.assert_array_equal(first["a"], second["a"])
    assert (first["a"] != first["b"]).any()


def test_what_one_input_tells_of_a_dimension_holds_for_the_others() -> None:
    given = {"x": np.ones((4, 3), np.float32)}
    assert fill_inputs([X, MASK], given, "zeros", {})["mask"].shape == (4, 2)
    assert fill_inputs([X, MASK], {}, "zeros", {"mask": (5, 2)})["x"].shape == (5, 3)


def test_a_scalar_may_be_named() -> None:
    assert fill_inputs([TensorSpec("s", (), "int64")], {}, "ones", {"s": ()})["s"].shape == ()


@pytest.mark.parametrize(
    ("given", "shapes", "message"),
    [
        ({}, {}, r"the input 'x' is float32\[batch, 3\], and batch is not known"),
        ({}, {"x": (2, 4)}, r"takes float32\[batch, 3\], not \[2, 4\]"),
        ({}, {"x": (2,)}, "has 2 dimensions, the shape given has 1"),
        ({}, {"z": (2,)}, "the model has no input 'z'"),
        ({"z": np.ones(1)}, {}, "the model has no input 'z'"),
        ({"x": np.ones((2, 3), np.float32)}, {"x": (2, 3)}, "has an array and a shape"),
    ],
)
def test_what_does_not_fit_is_refused(
    given: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        fill_inputs([X, MASK], given, "zeros", shapes)
