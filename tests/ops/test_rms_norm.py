from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import run_op
from tvm_vacc.ops import rms_norm


@pytest.mark.parametrize("hidden", [1, 15, 16, 17, 100, 4096])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_matches_reference(hidden: int, dtype: type) -> None:
    rng = np.random.default_rng(hidden)
    x = rng.standard_normal((2, 3, hidden), dtype=np.float32) * 10
    weight = rng.standard_normal(hidden, dtype=np.float32).astype(dtype)
    got = run_op(rms_norm, [x, weight], eps=1.5625e-07)
    want = rms_norm.reference(x, weight, 1.5625e-07)
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)
