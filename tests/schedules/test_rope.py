from __future__ import annotations

import numpy as np
import pytest

from schedules.rope import rope_kernel
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tvm_vacc.ops import rope
from tvm_vacc.runtime.tensors import to_numpy, to_tvm


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize(
    ("heads", "head_dim", "pairs"),
    [(3, 32, 8), (1, 48, 12), (2, 48, 24), (32, 128, 32), (2, 64, 32), (4, 128, 64), (1, 6, 2)],
)
def test_matches_reference_at_any_number_of_tokens(
    target: str, heads: int, head_dim: int, pairs: int
) -> None:
    """One kernel, few tokens (serial) and many (parallel)."""
    rng = np.random.default_rng(pairs)
    kernel = build_kernel(rope_kernel(heads, head_dim, pairs), HOST_TARGETS[target])
    for tokens in (0, 1, 5, 300):
        x = rng.standard_normal((tokens, heads, head_dim), dtype=np.float32)
        angle = rng.standard_normal((tokens, pairs), dtype=np.float32) * 100
        out = to_tvm(np.full_like(x, np.nan))
        kernel(to_tvm(x), to_tvm(np.cos(angle)), to_tvm(np.sin(angle)), out)
        want = rope.reference(x[None], np.cos(angle)[None], np.sin(angle)[None])[0]
        np.testing.assert_allclose(to_numpy(out), want, rtol=0, atol=1e-6)
