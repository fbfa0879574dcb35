"""Weights by name, as bytes and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm

from tvm_vacc.relay import explain


def save_param_dict(params: Mapping[str, Any]) -> bytearray:
    """Return `params`, tensors by name, as bytes for `load_param_dict`."""
    explain.lines("blob = tvm.runtime.save_param_dict(params)")
    return bytearray(tvm.runtime.save_param_dict(dict(params)))


def load_param_dict(param_bytes: bytes | bytearray) -> dict[str, tvm.runtime.Tensor]:
    """Return the tensors that `save_param_dict` has made `param_bytes` of.

    Raises:
        RuntimeError: it has not, as TVM says it.
    """
    explain.lines("params = dict(tvm.runtime.load_param_dict(blob).items())")
    return dict(tvm.runtime.load_param_dict(bytearray(param_bytes)).items())
