from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tvm_vacc.quantize.round_to_nearest import UnquantizableError, round_to_nearest
from tvm_vacc.steps.round_weights import round_weights


def read_only(weight: np.ndarray) -> np.ndarray:
    return np.frombuffer(weight.tobytes(), weight.dtype).reshape(weight.shape)


FORMS = {
    "bf16": lambda w: w.astype(ml_dtypes.bfloat16),
    "fp16": lambda w: w.astype(np.float16),
    "fp64": lambda w: w.astype(np.float64),
    "read-only": read_only,
    "transposed": lambda w: np.ascontiguousarray(w.T).T,
    "rows of a larger one": lambda w: np.concatenate([w, w])[1 : len(w) + 1],
    "columns of a larger one": lambda w: np.concatenate([w, w], axis=1)[:, 1 : w.shape[1] + 1],
}


@pytest.mark.parametrize(("bits", "group"), [(8, 150), (4, 64), (4, 50)])
@pytest.mark.parametrize("form", FORMS)
def test_the_bits_of_the_reference(form: str, bits: int, group: int) -> None:
    weight = FORMS[form](np.random.default_rng(0).standard_normal((7, 150), np.float32))
    codes, scales = round_weights(weight, bits, group)
    wanted_codes, wanted_scales = round_to_nearest(weight, bits, group)
    np.testing.assert_array_equal(codes, wanted_codes)
    np.testing.assert_array_equal(scales, wanted_scales)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "a NaN"), (-np.inf, "an infinity"), (6e5, "a value of 600000")]
)
def test_what_has_no_codes_is_refused(value: float, message: str) -> None:
    weight = np.ones((3, 64), np.float32)
    weight[2, 5] = value
    with pytest.raises(UnquantizableError, match=message):
        round_weights(weight, 4, 32)
