"""Tuning a convolution for a handful of trials: measured, right, and gone on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.tuning.models import convolution, linears, pooling
from tvm_vacc import tvmc
from tvm_vacc.errors import ConfigError, TargetError
from tvm_vacc.tuning.progress import TuningProgress
from tvm_vacc.tuning.tune import DEFAULT_TARGET, tune
from tvm_vacc.tuning_records import SCHEDULES, KernelRecord


def test_c_cannot_be_tuned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="C sources cannot be timed here"):
        tune(tmp_path / "net.onnx", records=tmp_path / "r", target="tvm_vacc/c")


def test_code_for_another_machine_cannot_be_timed(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"compiled for riscv64.*; tune on the machine"):
        tune(
            tmp_path / "net.onnx",
            records=tmp_path / "r",
            target="tvm_vacc -mtriple=riscv64-linux-gnu",
        )


def test_a_model_may_have_nothing_to_tune(tmp_path: Path) -> None:
    model = pooling(tmp_path / "net.onnx")
    told: list[int] = []
    with pytest.raises(ConfigError, match="none of its kernels can be tuned"):
        tune(model, records=tmp_path / "r", listed=lambda found: told.append(found.open_kernels))
    assert told == [1]


@pytest.mark.slow
def test_a_tuned_model_is_right_and_tuning_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, records = convolution(tmp_path / "net.onnx"), tmp_path / "records"
    told: list[TuningProgress] = []
    tuned = tune(path, records=records, trials=4, tasks="0", progress=told.append)
    assert [progress.record.trials for progress in told] == [0, 4]
    [record] = tuned.kernels
    assert isinstance(record, KernelRecord)
    assert record.best is not None
    [gain] = tuned.gains
    assert (gain.what, gain.times > 0) == ("run", True)
    measured = (records / SCHEDULES).read_text()
    assert len(measured.splitlines()) == 4

    model = tvmc.load(path)
    assert tvmc.tune(model, tuning_records=records, trials=6, tasks="0") == str(records)
    assert "times as fast" in capsys.readouterr().out
    more = (records / SCHEDULES).read_text()
    assert more.startswith(measured)
    assert len(more.splitlines()) == 6

    package = tvmc.compile(model, DEFAULT_TARGET, tuning_records=records)
    x = np.random.default_rng(1).standard_normal((1, 8, 14, 14)).astype(np.float32)
    [expected] = onnxruntime.InferenceSession(path).run(None, {"x": x})
    result = tvmc.run(package, inputs={"x": x}).get_output("y")
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_linears_are_tuned_and_compiled_by_the_records(tmp_path: Path) -> None:
    path, records = linears(tmp_path / "net.onnx"), tmp_path / "records"
    tuned = tune(path, records=records, trials=2, tasks="0")
    [record] = tuned.kernels
    assert (record.name, record.trials) == ("linear float32 320->320", 2)
    assert [gain.what for gain in tuned.gains] == ["run"]
    again = tune(path, records=records, trials=2, tasks="0", compare=False)
    assert again.records == tuned.records
