from __future__ import annotations

import json
from pathlib import Path

from tests.tvmc.conftest import Tvmc
from tvm_vacc.artifact.calibration import CalibratedWeight
from tvm_vacc.artifact.manifest import Manifest, PassReport, StoredWeights
from tvm_vacc.artifact.store import ArtifactWriter


def write(directory: Path, file: str = "weights.bin") -> Path:
    with ArtifactWriter(directory) as writer:
        (writer.directory / file).parent.mkdir(parents=True, exist_ok=True)
        (writer.directory / file).write_bytes(bytes(1500))
        writer.commit(
            Manifest(
                name="small",
                kind="causal_lm",
                target="tvm_vacc -mcpu=znver4",
                dtype="bf16",
                model_spec={"layers": 2},
                quantization="w4a16",
                storage=(
                    StoredWeights("linear", "w4a16", "round_to_nearest", 64, 12, 8000, 4500),
                    StoredWeights("head", "bf16", "", 0, 1, 1000, 2000),
                ),
                calibration=(
                    CalibratedWeight("layers.0.q_proj.weight", 0.004, 0.006, 0.01),
                    CalibratedWeight("layers.0.k_proj.weight", 0.002, 0.005, 0.1),
                ),
                passes=(PassReport("fuse_rope", 4, 4, 0.5),),
                tools={"apache-tvm": "0.27.0"},
            )
        )
    return directory


def test_shows_everything(tvmc: Tvmc, tmp_path: Path) -> None:
    code, out, err = tvmc("inspect", write(tmp_path / "a"))
    assert (code, err) == (0, "")
    words = out.split()
    assert {"small", "causal_lm", "-mcpu=znver4", "bf16", "layers", "0.27.0"} <= set(words)
    assert words[words.index("fuse_rope") :][:5] == ["fuse_rope", "4", "4", "0.50", "s"]
    assert words[words.index("weights.bin") :][:3] == ["weights.bin", "1.5", "kB"]


def test_shows_what_calibrated_codes_cost(tvmc: Tvmc, tmp_path: Path) -> None:
    _, out, _ = tvmc("inspect", write(tmp_path / "a"))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (
        "calibrated: 2 linears, mean error of their outputs 0.30%, rounded to nearest 0.55%"
    ) in lines
    assert "worst: layers.0.q_proj.weight 0.40%, rounded to nearest 0.60%" in lines
    assert "0 2 0.30% 0.55% 0.40% 0.1" in lines  # its layer: damping is the largest needed


def test_shows_what_the_weights_are_stored_as(tvmc: Tvmc, tmp_path: Path) -> None:
    _, out, _ = tvmc("inspect", write(tmp_path / "a"))
    rows = [line.split() for line in out.splitlines()]
    assert ["quantization", "w4a16"] in rows
    linear = ["linear", "w4a16", "round_to_nearest", "64", "12", "8,000", "4.5", "kB", "4.50"]
    assert linear in rows
    assert ["head", "bf16", "-", "-", "1", "1,000", "2.0", "kB", "16.00"] in rows


def test_long_lines_are_neither_cut_nor_broken(tvmc: Tvmc, tmp_path: Path) -> None:
    name = "a-long-name/" * 12 + "weights.bin"
    _, out, _ = tvmc("inspect", write(tmp_path / "a", file=name))
    assert any(line.startswith(f"{name} ") for line in out.splitlines())


def test_json_is_the_manifest(tvmc: Tvmc, tmp_path: Path) -> None:
    artefact = write(tmp_path / "a")
    _, out, _ = tvmc("inspect", artefact, "--json")
    assert json.loads(out) == json.loads((artefact / "manifest.json").read_text())


def test_verify(tvmc: Tvmc, tmp_path: Path) -> None:
    artefact = write(tmp_path / "a")
    code, out, _ = tvmc("inspect", artefact, "--verify")
    assert code == 0
    assert "All 1 files are as they were written." in out
    (artefact / "weights.bin").write_bytes(bytes(1499) + b"x")
    assert tvmc("inspect", artefact)[0] == 0
    code, out, err = tvmc("inspect", artefact, "--verify")
    assert (code, out) == (4, "")
    assert "weights.bin: damaged" in err
