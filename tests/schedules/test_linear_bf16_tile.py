"""Which products a target has, and what weights are stored as for them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.isa import isa_of
from schedules.linear_bf16_tile import products_in, stored_as

DOTS: dict[str, Any] = {"kind": "llvm", "mcpu": "znver4"}
NONE: dict[str, Any] = {"kind": "llvm", "mcpu": "x86-64-v3"}


@pytest.mark.parametrize(
    ("target", "dtype", "wanted", "stored", "products"),
    [
        (DOTS, "float16", "bf16", "bfloat16", "bf16"),
        (DOTS, "float16", "fp32", "float16", "fp32"),
        (DOTS, "bfloat16", "bf16", "bfloat16", "bf16"),
        (DOTS, "bfloat16", "fp32", "bfloat16", "fp32"),
        (DOTS, "float32", "bf16", "float32", "fp32"),
        (NONE, "float16", "bf16", "float16", "fp32"),
        (NONE, "bfloat16", "bf16", "bfloat16", "fp32"),
    ],
)
def test_storage_and_products(
    target: Any, dtype: str, wanted: str, stored: str, products: str
) -> None:
    isa = isa_of(tvm.target.Target(target))
    assert stored_as(dtype, wanted, isa) == stored
    assert products_in(stored, wanted, isa) == products


def test_storing_as_bf16_is_what_the_product_would_round_to() -> None:
    """A weight of fp16 has one nearest bf16, whether it is rounded before or in the product."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    direct = finite.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(direct, finite.astype(np.float32).astype(ml_dtypes.bfloat16))
    assert np.isfinite(direct.astype(np.float32)).all()
