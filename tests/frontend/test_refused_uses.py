"""What would be compiled to something else is told before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tvm_vacc.frontend.refused_uses import Use, refused_use

SIZE = numpy_helper.from_array(np.array(4, np.int64), "size")

CASES: list[tuple[str, list[str], list[str], dict[str, Any], str]] = [
    ("NonMaxSuppression", ["b", "s"], ["y"], {}, "NonMaxSuppression"),
    ("RoiAlign", ["x", "r", "i"], ["y"], {"mode": "max"}, "RoiAlign of mode max"),
    ("RoiAlign", ["x", "r", "i"], ["y"], {"mode": "avg"}, ""),
    ("SpaceToDepth", ["x"], ["y"], {"mode": "CRD", "blocksize": 2}, "SpaceToDepth of mode CRD"),
    ("SpaceToDepth", ["x"], ["y"], {"blocksize": 2}, ""),
    ("ConvTranspose", ["x", "w"], ["y"], {"output_shape": [3]}, "ConvTranspose with output_shape"),
    ("ConvTranspose", ["x", "w"], ["y"], {}, ""),
    ("BatchNormalization", ["x"], ["y"], {"training_mode": 0}, ""),
    ("BatchNormalization", ["x"], ["y"], {"training_mode": 1},
     "BatchNormalization in training mode"),
    ("HannWindow", ["computed"], ["y"], {}, "HannWindow of a computed length"),
    ("HannWindow", ["size"], ["y"], {}, ""),
    ("Dropout", ["x"], ["y", "mask"], {}, "Dropout whose mask is read"),
    ("Dropout", ["x"], ["y", "unread"], {}, ""),
    ("Dropout", ["x", "", "mode"], ["y"], {}, "Dropout in training mode"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "outputs", "attributes", "refused"), CASES)
def test_a_use_is_refused_by_its_name(
    kind: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any], refused: str
) -> None:
    node = helper.make_node(kind, inputs, outputs, **attributes)
    use = Use({"size": SIZE}, {"x", "mask", "y"}, Path())
    assert refused_use(kind, node, use) == refused


MICROSOFT: list[tuple[str, int, list[str], dict[str, Any], str]] = [
    ("GroupQueryAttention", 12, ["y"], {}, ""),
    ("GroupQueryAttention", 13, ["y"], {}, "with a quantised cache"),
    ("GroupQueryAttention", 7, ["y", "k", "v", "read"], {}, "whose scores are read"),
    ("MatMulNBits", 3, ["y"], {"bits": 3}, "of other than 2, 4 or 8 bits"),
    ("MatMulNBits", 5, ["y"], {"bits": 8}, ""),
    ("MultiHeadAttention", 9, ["y"], {}, "with a buffer shared by past and present"),
    ("RotaryEmbedding", 4, ["y"], {"scale": 1.0}, ""),
    ("RotaryEmbedding", 4, ["y"], {"scale": 2.0}, "with scale"),
    ("RotaryEmbedding", 4, ["y"], {"is_packed_batching": 1}, "of packed batches"),
    ("SkipSimplifiedLayerNormalization", 3, ["y", "", "", "s"], {}, ""),
    ("SkipSimplifiedLayerNormalization", 3, ["y", "read"], {},
     "whose mean or inv_std_var is read"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "outputs", "attributes", "refused"), MICROSOFT)
def test_a_use_of_a_foreign_operator_is_refused(
    kind: str, inputs: int, outputs: list[str], attributes: dict[str, Any], refused: str
) -> None:
    names = [f"x{index}" for index in range(inputs)]
    node = helper.make_node(kind, names, outputs, domain="com.microsoft", **attributes)
    found = refused_use(f"com.microsoft::{kind}", node, Use({}, {"read"}, Path()))
    assert found == (f"com.microsoft::{kind} {refused}" if refused else "")


def test_operators_of_other_domains_are_others() -> None:
    node = helper.make_node("NonMaxSuppression", ["b"], ["y"], domain="mine")
    assert refused_use("mine::NonMaxSuppression", node, Use({}, set(), Path())) == ""
