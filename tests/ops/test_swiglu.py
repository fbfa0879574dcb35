from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.harness import compile_op, host_targets, run_op, target_name
from tvm_vacc.ops import swiglu


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("features", [1, 15, 16, 17, 100, 4095])
def test_matches_reference(features: int, target: Any) -> None:
    function = compile_op(swiglu, [(("batch", "seq", 2 * features), "float32")], target)
    rng = np.random.default_rng(features)
    for shape in ((1, 1), (2, 3), (2, 130)):
        gate_up = rng.standard_normal((*shape, 2 * features), dtype=np.float32) * 20
        want = swiglu.reference(gate_up)
        np.testing.assert_allclose(function(gate_up), want, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
def test_ends_of_the_range(target: Any) -> None:
    gate = np.array([1e30, -1e30, -200, 200, 0, np.inf, np.nan] + [1.0] * 25, np.float32)
    gate_up = np.concatenate([gate, np.full(32, 2, np.float32)])[None]
    got = run_op(swiglu, [gate_up], target)[0]
    want = np.array([2e30, 0, 0, 400, 0, np.inf], np.float32)
    np.testing.assert_array_equal(got[:6], want)
    assert np.isnan(got[6])
    np.testing.assert_allclose(got[7:], 2 / (1 + np.exp(-1)), rtol=1e-6)


def test_odd_width_is_refused() -> None:
    with pytest.raises(Exception, match="even"):
        run_op(swiglu, [np.zeros((2, 3), np.float32)])
