from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes.canonicalize import Canonicalize
from relay_passes.fuse_embedding import FuseEmbedding
from tests.relay_passes.build import dim, module
from tests.relay_passes.running import apply, op_names, run_main


def look_up(cast: str = "none", axis: int = 0, ids_dtype: str = "int64") -> ir.IRModule:
    def body(emit: Any, ids: relax.Var, table: relax.Var) -> relax.Expr:
        if cast == "table":
            table = emit(relax.op.astype(table, "float32"))
        rows = emit(relax.op.take(table, ids, axis=axis, mode="wrap"))
        return emit(relax.op.astype(rows, "float32")) if cast == "rows" else rows

    shape = [dim("batch"), dim("seq")]
    dtype = "float32" if cast == "none" else "float16"
    return module({"ids": shape}, {"table": [20, 20]}, body, {"ids": ids_dtype, "table": dtype})


@pytest.mark.parametrize("cast", ["none", "table", "rows"])
def test_fuses_and_keeps_the_value(cast: str) -> None:
    result = FuseEmbedding().apply(apply(Canonicalize(), look_up(cast)))
    assert result.matches == 1
    assert op_names(result.module) == {"tvm_vacc.embedding"}
    table = (
        np.random.default_rng(0)
        .standard_normal((20, 20))
        .astype(np.float32 if cast == "none" else np.float16)
    )
    ids = np.array([[0, 19, 7]])
    got = run_main(result.module, {"ids": ids, "table": table})[0]
    np.testing.assert_array_equal(got, table[ids].astype(np.float32))


def test_look_up_along_another_axis_stays() -> None:
    assert FuseEmbedding().apply(apply(Canonicalize(), look_up(axis=1))).matches == 0
