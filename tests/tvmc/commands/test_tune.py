from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedules.attention_tiles import Attention
from schedules.tiles import Linear
from tests.tvmc.conftest import Tvmc
from tvm_vacc.errors import ConfigError
from tvm_vacc.tile_records import TileRecord, TileTrial, TokenTimes
from tvm_vacc.tuning import tune as tuning
from tvm_vacc.tuning.gain import Gain
from tvm_vacc.tuning.progress import TuningProgress
from tvm_vacc.tuning.tasks import Kernel, LinearKernel, Tasks
from tvm_vacc.tuning.tune import Tuned
from tvm_vacc.tuning_records import KernelRecord, TuningRecords

LINEAR = Linear("w8a16", 64, 32)
OTHER = Linear("w8a16", 96, 32)
ATTENTION = Attention("int8", 32, 2, 128)
TASKS = Tasks(
    (
        Kernel("conv2d", None, 3, 2e6),
        LinearKernel(LINEAR, 2, (1, 8), 1 << 20),
        Kernel("softmax", None, 1, 4e3),
    ),
    2,
)
CONV = KernelRecord("conv2d", "a", 1e-3, 1e-4, 64)
SOFTMAX = KernelRecord("softmax", "b", 1e-5, 2e-5, 64)
POOL = KernelRecord("pool", "c", 1e-5, None, 64)
TIMES = (TokenTimes(1, 3e-6, 2e-6, 1.5), TokenTimes(8, 4e-6, 4e-6, 1.0))
GAINING = TileRecord(LINEAR, {"rows": 4}, TIMES, (TileTrial({"rows": 4}, 1.2),) * 5)
DECODE = TokenTimes(1, 5e-6, 4e-6, 1.25, context=1024)
FASTER = TileRecord(ATTENTION, {"tile_rows": 256}, (DECODE,), (TileTrial({"tile_rows": 256}, 1.2),))
TUNED = Tuned(
    TuningRecords(Path("records"), "tvm_vacc", {}, {LINEAR: GAINING, ATTENTION: FASTER}),
    (CONV, SOFTMAX, POOL, GAINING, TileRecord(OTHER), FASTER),
    (Gain("run", 5e-3, 1e-3, 4.9),),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").touch()
    return tmp_path / "net.onnx"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command asks of the library, which says that a model became five times as fast."""
    calls: list[dict[str, Any]] = []

    def tune(path: Path, *, progress: Callable[..., None], listed: Any, **options: Any) -> Tuned:
        calls.append({"path": path, **options})
        listed(TASKS)
        for known, left in ((KernelRecord("conv2d", "a", 1e-3, None, 0), None), (CONV, 75.0)):
            progress(TuningProgress(1, 2, known, 64, left))
        progress(TuningProgress(2, 2, TileRecord(OTHER), 32, 5.0))
        progress(TuningProgress(2, 2, GAINING, 32, 5.0))
        return TUNED

    monkeypatch.setattr(tuning, "tune", tune)
    return calls


def test_options_reach_the_library_and_results_the_user(
    tvmc: Tvmc, asked: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    records = tmp_path / "r"
    code, out, err = tvmc(
        *("tune", model, "-o", records, "--trials", 5, "--tasks", "0,1", "--early-stopping", 3),
        *("--timeout", 9, "--parallel", 2, "--input-shapes", "x:[1,3]", "--no-comparison"),
    )
    assert code == 0
    [call] = asked
    assert call == {
        "path": model,
        "records": records,
        "target": "tvm_vacc -mcpu=native",
        "tasks": "0,1",
        "trials": 5,
        "early_stopping": 3,
        "timeout": 9.0,
        "workers": 2,
        "compare": False,
        "dtype": None,
        "context": None,
        "prefill": None,
        "input_shapes": {"x": (1, 3)},
    }
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["conv2d", "64", "1000.0", "us", "100.0", "us", "10.00"]
    assert lines[2] == ["softmax", "64", "10.0", "us", "20.0", "us", "no", "gain"]
    assert lines[3] == ["pool", "64", "10.0", "us", "none", "ran", "no", "gain"]
    name = ["linear", "w8a16", "64->32,"]
    assert lines[4] == [*name, "1", "token", "5", "3.0", "us", "2.0", "us", "1.50"]
    assert lines[5] == [*name, "8", "tokens", "5", "4.0", "us", "4.0", "us", "1.00"]
    assert lines[6] == ["linear", "w8a16", "96->32", "0", "-", "-", "no", "gain"]
    name = ["attention", "int8", "32/2", "x", "128,", "1", "token", "of", "1024"]
    assert lines[7] == [*name, "1", "5.0", "us", "4.0", "us", "1.25"]
    assert "linear w8a16 64->32: rows 4\n" in out
    assert "attention int8 32/2 x 128: tile_rows 256\n" in out
    assert (
        "The model, a run, timed in turn: 5.000 ms without the records, 1.000 ms with them: 4.90 "
        "times as fast.\n" in out
    )
    assert f"tvmc compile --tuning-records {records}\n" in out
    assert "Note: 2 kernels that TVM schedules have dimensions that the model leaves open" in err
    assert "[1/2] conv2d, trial 0/64, untuned 1000.0 us\n" in err
    assert "[1/2] conv2d, trial 64/64, untuned 1000.0 us, best 100.0 us, 1 min 15 s left\n" in err
    assert "[2/2] linear w8a16 96->32, trial 0/32, 5 s left\n" in err
    assert "[2/2] linear w8a16 64->32, trial 5/32, best 1.22 times as fast, 5 s left\n" in err


def test_tasks_are_listed(tvmc: Tvmc, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "list_tasks", lambda *_, **__: TASKS)
    code, out, err = tvmc("tune", model, "--tasks", "list")
    assert code == 0
    assert err.startswith("Note: 2 kernels that TVM schedules have")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["0", "conv2d", "schedule", "3", "2.00"],
        ["1", "linear", "w8a16", "64->32", "tiles", "2", "0.00"],
        ["2", "softmax", "schedule", "1", "0.00"],
    ]


def test_an_interrupt_says_what_is_kept(
    tvmc: Tvmc, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Tuned:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "tune", interrupted)
    code, _, err = tvmc("tune", model, "-o", "kept")
    assert code == 130
    assert err.startswith(
        "Interrupted. What was found is in kept; the same command goes on from there.\n"
    )


def test_errors_are_one_line(tvmc: Tvmc, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Tuned:
        raise ConfigError("no", "do something else")

    monkeypatch.setattr(tuning, "tune", refuse)
    code, _, err = tvmc("tune", model)
    assert (code, err) == (4, "Error: no; do something else\n")
    code, _, err = tvmc("tune", model, "--target", "cuda")
    assert code == 4
    assert err.startswith("Error: target 'cuda'")
