from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.parallel import PARALLEL_BYTES, for_each, for_lanes


def count_visits(rows: int, extent: int, lanes: int, bytes_each: int) -> np.ndarray:
    """Add one to every element that the two loops visit, ``[rows, extent]``."""
    with IRBuilder() as builder, T.prim_func():
        T.func_name("main")
        T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
        out, count = T.arg("out", T.handle()), T.int64()
        visits = T.match_buffer(out, (count, extent), "float32")

        def one_row(row: Any) -> None:
            def visit(index: Any) -> None:
                T.buffer_store(visits, visits[row, index] + 1.0, [row, index])

            for_lanes(extent, lanes, visit)

        for_each(count, bytes_each, one_row)
    module = tvm.compile(tvm.IRModule({"main": builder.get()}), target="llvm")
    result = tvm.runtime.tensor(np.zeros((rows, extent), np.float32))
    module["main"](result)
    return result.numpy()


@pytest.mark.parametrize("extent", [1, 3, 4, 5, 16, 31])
@pytest.mark.parametrize("bytes_each", [1, PARALLEL_BYTES // 8, PARALLEL_BYTES])
def test_every_element_is_visited_once(extent: int, bytes_each: int) -> None:
    for rows in (1, 7, 8, 9, 50):  # below, at and above the bound for a parallel launch
        assert np.all(count_visits(rows, extent, 4, bytes_each) == 1)
