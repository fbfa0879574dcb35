from __future__ import annotations

import numpy as np
import pytest

from tests.tuning.models import convolution
from tvm_vacc import compiler
from tvm_vacc.errors import PassError
from tvm_vacc.tuning.gain import _compare, measure_gains


def test_an_artefact_gains_nothing_over_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("gain")
    model = convolution(directory / "net.onnx", batch="batch")
    path = compiler.compile(model, output=directory / "out")
    [gain] = measure_gains(path, path)
    assert gain.what == "run"
    assert min(gain.untuned, gain.tuned) > 0
    assert 0.2 < gain.times < 5  # others may run beside


def test_other_results_are_refused() -> None:
    one = np.array([0.0, 10.0, np.nan], np.float32)
    _compare([one, np.arange(3)], [one + np.float32(5e-4), np.arange(1, 4)])
    with pytest.raises(PassError, match="other results"):
        _compare([one], [one + np.float32(5e-3)])
