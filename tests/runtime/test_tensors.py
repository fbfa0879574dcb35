from __future__ import annotations

import numpy as np

from tvm_vacc.runtime.tensors import Arguments, to_numpy


def test_arguments_hold_what_was_put_last() -> None:
    arguments = Arguments()
    first = arguments.put([np.arange(3, dtype=np.int32), np.array([0.5], np.float32)])
    assert [item.dtype for item in first] == ["int32", "float32"]
    second = arguments.put([np.arange(3, 6, dtype=np.int32), np.array([1.5], np.float32)])
    np.testing.assert_array_equal(to_numpy(second[0]), [3, 4, 5])
    np.testing.assert_array_equal(to_numpy(second[1]), [1.5])
    assert second[0].same_as(first[0]), "the same shape is written into the same tensor"


def test_another_shape_or_dtype_gets_another_tensor() -> None:
    arguments = Arguments()
    arguments.put([np.arange(3, dtype=np.int32)])
    [longer] = arguments.put([np.arange(5, dtype=np.int32)])
    np.testing.assert_array_equal(to_numpy(longer), np.arange(5))
    [wider] = arguments.put([np.arange(5, dtype=np.int64)])
    assert wider.dtype == "int64"


def test_views_are_copied_whatever_their_strides() -> None:
    table = np.arange(12, dtype=np.int32).reshape(3, 4)
    [tensor] = Arguments().put([table[:, ::2]])
    np.testing.assert_array_equal(to_numpy(tensor), table[:, ::2])
