from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from tests.ops.harness import run_op
from tvm_vacc.ops import rope


def test_reference_is_a_complex_rotation() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 2, 12), dtype=np.float32)
    angle = rng.standard_normal((1, 3, 4), dtype=np.float32)
    got = rope.reference(x, np.cos(angle), np.sin(angle))
    rotated = (x[..., 0:8:2] + 1j * x[..., 1:8:2]) * np.exp(1j * angle)[:, :, None]
    np.testing.assert_allclose(got[..., 0:8:2], rotated.real, atol=1e-6)
    np.testing.assert_allclose(got[..., 1:8:2], rotated.imag, atol=1e-6)
    np.testing.assert_array_equal(got[..., 8:], x[..., 8:])


@pytest.mark.parametrize("part", [0.5, 1.0])
@pytest.mark.parametrize("leading", [(1, 5), (2, 3), (4, 1)])
def test_matches_reference(part: float, leading: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*leading, 3, 48), dtype=np.float32)
    angle = rng.standard_normal((*leading, int(48 * part) // 2), dtype=np.float32)
    arrays = [x, np.cos(angle), np.sin(angle)]
    np.testing.assert_allclose(run_op(rope, arrays), rope.reference(*arrays), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("x_shape", "cos_shape", "sin_shape"),
    [
        ([1, 2, 3, 16], [1, 2, 9], [1, 2, 9]),
        ([1, 2, 3, 16], [1, 2, 4], [1, 2, 8]),
        ([1, 2, 48], [1, 2, 4], [1, 2, 4]),
    ],
)
def test_type_errors(x_shape: list[int], cos_shape: list[int], sin_shape: list[int]) -> None:
    arguments = [
        relax.Var(name, relax.TensorType(shape, "float32"))
        for name, shape in (("x", x_shape), ("cos", cos_shape), ("sin", sin_shape))
    ]
    with pytest.raises(TypeError, match="rope"):
        relax.BlockBuilder().normalize(rope(*arguments))
