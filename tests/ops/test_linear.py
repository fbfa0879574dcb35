from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import run_op
from tvm_vacc.ops.linear import linear


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("with_bias", [True, False])
def test_matches_numpy(dtype: type, with_bias: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 17), dtype=np.float32)
    weight = rng.standard_normal((9, 17), dtype=np.float32).astype(dtype)
    bias = rng.standard_normal(9, dtype=np.float32)
    want = np.einsum("bsi,oi->bso", x, weight.astype(np.float32))
    if with_bias:
        want = want + bias
    arguments = [x, weight, bias] if with_bias else [x, weight]
    np.testing.assert_allclose(run_op(linear, arguments), want, atol=1e-5)
    np.testing.assert_allclose(linear.reference(*arguments), want, atol=1e-5)


def test_wrong_shapes_are_refused() -> None:
    x, weight = np.zeros((2, 4), np.float32), np.zeros((3, 5), np.float32)
    with pytest.raises(TypeError, match="does not fit"):
        run_op(linear, [x, weight])
