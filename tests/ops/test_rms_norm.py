from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.harness import FLOAT_DTYPES, compile_op, host_targets, run_op, target_name
from tvm_vacc.ops import rms_norm

EPS = 1.5625e-07


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("hidden", [1, 15, 16, 17, 100, 4095, 4096])
def test_matches_reference(hidden: int, dtype: type, target: Any) -> None:
    rng = np.random.default_rng(hidden)
    weight = rng.standard_normal(hidden, dtype=np.float32).astype(dtype)
    types = [(("batch", "seq", hidden), "float32"), ((hidden,), str(weight.dtype))]
    function = compile_op(rms_norm, types, target, eps=EPS)
    for shape in ((1, 1), (2, 3), (3, 50)):
        x = rng.standard_normal((*shape, hidden), dtype=np.float32) * 10
        together = function(x, weight)
        want = rms_norm.reference(x, weight, EPS)
        np.testing.assert_allclose(together, want, rtol=2e-6, atol=2e-6)
        np.testing.assert_array_equal(function(x[-1:, -1:], weight), together[-1:, -1:])


def test_zeros_stay_zero() -> None:
    x, weight = np.zeros((2, 20), np.float32), np.ones(20, np.float32)
    np.testing.assert_array_equal(run_op(rms_norm, [x, weight], eps=EPS), x)


def test_weight_must_fit() -> None:
    with pytest.raises(Exception, match="does not fit"):
        run_op(rms_norm, [np.zeros((2, 20), np.float32), np.ones(21, np.float32)], eps=EPS)
