"""What `tvmc compile --dry-run` says before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_compiler import mlp
from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import CHECKPOINT
from tvm_vacc.tvmc._plan import about

CONFIG = """
name: glm
frontend:
  checkpoint: {checkpoint}
  type: huggingface
  shape: {{input_ids: [[64], [512]]}}
  quantize: {{type: {type}, embedding: 8bit}}
backend: {{type: tvm_vacc, dtype: bf16}}
workspace: {{path: out}}
accuracy: {accuracy}
"""


def plan(tvmc: Tvmc, directory: Path, *options: object, **config: object) -> dict[str, str]:
    """Return the lines of a dry run, by their first word or two."""
    path = directory / "glm.yaml"
    values = {"type": "w4a16", "accuracy": "{tokens: 64}", **config}
    path.write_text(CONFIG.format(checkpoint=CHECKPOINT, **values))
    code, out, err = tvmc("compile", path, "--dry-run", *options)
    assert code == 0, err
    assert not (directory / "out").exists()
    return dict((*line.split("  ", 1), "")[:2] for line in out.splitlines())


def test_says_what_each_kind_of_tensor_becomes(tvmc: Tvmc, tmp_path: Path) -> None:
    lines = plan(tvmc, tmp_path)
    assert lines["linear"].split()[:4] == ["w4a16", "round_to_nearest", "64", "24"]
    assert lines["head"].split()[:4] == ["bf16", "-", "-", "1"]
    assert lines["embedding"].split()[0] == "w8a16"
    assert lines["KV cache"].strip() == "1.0 kB a token, 524.3 kB for a context of 512"
    assert "while compiling" in lines["memory"]
    assert lines["time"].strip().startswith("about ")


def test_says_whether_accuracy_is_measured(tvmc: Tvmc, tmp_path: Path) -> None:
    assert plan(tvmc, tmp_path)["passport"].strip().startswith("accuracy on 64 tokens, about ")
    without = plan(tvmc, tmp_path, "--no-passport")
    assert without["passport"].strip() == "none: not asked for"
    assert plan(tvmc, tmp_path, accuracy="false")["passport"].strip() == "none: not asked for"


def test_says_how_long_calibration_takes(tvmc: Tvmc, tmp_path: Path) -> None:
    assert "calibration" not in plan(tvmc, tmp_path)
    lines = plan(tvmc, tmp_path, type="w8a16_gptq")
    assert lines["calibration"].strip().startswith("128 samples of 512 tokens, about ")
    assert lines["linear"].split()[:2] == ["w8a16", "gptq"]


def test_a_graph_goes_through_its_passes(
    tvmc: Tvmc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = tvmc("compile", mlp(tmp_path / "mlp.onnx"), "--dry-run")
    assert code == 0
    [linear] = [line.split() for line in out.splitlines() if line.startswith("linear")]
    assert linear[1:4] == ["fp32", "-", "-"]
    [passport] = [line for line in out.splitlines() if line.startswith("passport")]
    assert passport.endswith("none: the .onnx file has no checkpoint to be compared with")
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.4, "4 s"), (89, "89 s"), (95, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert about(seconds) == text
