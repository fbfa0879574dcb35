from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.cancel_transposes import CancelTransposes
from tests.relay_passes.build import module
from tests.relay_passes.running import apply, op_names, run_main


def permuted(*steps: list[int]) -> Any:
    def body(emit: Any, x: relax.Var) -> relax.Expr:
        for axes in steps:
            x = emit(relax.op.permute_dims(x, axes))
        return x

    return body


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        (([0, 2, 1, 3], [0, 2, 1, 3]), set()),
        (([1, 2, 3, 0], [3, 0, 1, 2]), set()),
        (([0, 2, 1, 3], [0, 2, 3, 1]), {"permute_dims"}),
        (([1, 0, 2, 3],), {"reshape"}),
        (([0, 2, 1, 3],), {"permute_dims"}),
    ],
)
def test_permutations(steps: tuple[list[int], ...], names: set[str]) -> None:
    original = module({"x": [1, 3, 4, 5]}, {}, permuted(*steps))
    cancelled = apply(CancelTransposes(), original)
    assert op_names(cancelled) == names
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 5), dtype=np.float32)
    got, want = run_main(cancelled, {"x": x})[0], x
    for axes in steps:
        want = want.transpose(axes)
    np.testing.assert_array_equal(got, want)


def test_across_reshapes_that_change_nothing() -> None:
    def body(emit: Any, x: relax.Var) -> relax.Expr:
        x = emit(relax.op.permute_dims(x, [1, 0, 2]))
        x = emit(relax.op.reshape(x, [4, 3, 5]))
        return relax.op.permute_dims(x, [1, 0, 2])

    assert op_names(apply(CancelTransposes(), module({"x": [3, 4, 5]}, {}, body))) == set()


def test_a_reshape_that_mixes_axes_stays_between() -> None:
    def body(emit: Any, x: relax.Var) -> relax.Expr:
        x = emit(relax.op.permute_dims(x, [1, 0, 2]))
        x = emit(relax.op.reshape(x, [3, 4, 5]))
        return relax.op.permute_dims(x, [1, 0, 2])

    kept = apply(CancelTransposes(), module({"x": [3, 4, 5]}, {}, body))
    assert op_names(kept) == {"permute_dims", "reshape"}
