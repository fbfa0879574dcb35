"""GPTQ over a tiny GLM: against transformers whole in memory, and through kills and damage."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import GlmForCausalLM

from tests.frontend.glm_factory import make_glm_checkpoint
from tests.quantize.gptq_reference import gptq_reference, output_error
from tvm_vacc.calibration import hidden_states, run
from tvm_vacc.calibration.codes_record import read_record
from tvm_vacc.calibration.options import CalibrationOptions, CodesWanted
from tvm_vacc.errors import CheckpointError, ConfigError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.progress import Progress
from tvm_vacc.quantize.round_to_nearest import round_to_nearest

GROUPS = [
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    ["self_attn.o_proj"],
    ["mlp.gate_up_proj"],
    ["mlp.down_proj"],
]
EIGHT = CodesWanted(8, 0, head=True)
FOUR = CodesWanted(4, 32, head=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_checkpoint(tmp_path_factory.mktemp("glm") / "tiny", intermediate_size=160)


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 300, (11, 37))


def calibrate(
    checkpoint: Path,
    samples: np.ndarray,
    directory: Path,
    wanted: CodesWanted = EIGHT,
    **options: object,
) -> list[Progress]:
    directory.mkdir(exist_ok=True)
    told: list[Progress] = []
    run.calibrate(
        open_checkpoint(checkpoint),
        samples,
        wanted,
        CalibrationOptions(**options),  # type: ignore[arg-type]
        directory,
        told.append,
    )
    return told


def inputs_of(model: GlmForCausalLM, name: str, samples: np.ndarray) -> np.ndarray:
    """Run the model and return what its linear `name` reads, ``[tokens, in]``."""
    seen: list[torch.Tensor] = []
    linear = model.get_submodule(name)
    hook = linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.from_numpy(samples))
    hook.remove()
    return seen[0].flatten(0, -2).numpy()


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("wanted", [EIGHT, FOUR], ids=["8 bits", "4 bits"])
def test_every_linear_is_calibrated_behind_the_quantised_ones(
    checkpoint: Path, samples: np.ndarray, tmp_path: Path, wanted: CodesWanted, sequential: bool
) -> None:
    calibrate(checkpoint, samples, tmp_path, wanted, true_sequential=sequential)
    model = GlmForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    layers = [
        [f"model.layers.{index}.{name}" for name in group] for index in (0, 1) for group in GROUPS
    ]
    at_once = [[name for group in part for name in group] for part in (layers[:4], layers[4:])]
    steps = layers if sequential else at_once
    steps += [["lm_head"]] if wanted.head else []
    for step in steps:
        inputs = {name: inputs_of(model, name, samples) for name in step}
        for name in step:
            linear = model.get_submodule(name)
            weight = linear.weight.detach().numpy().copy()
            file = "head" if name == "lm_head" else f"layer.000{name.split('.')[2]}"
            made = load_file(tmp_path / f"{file}.safetensors")
            codes = made[f"{name}.weight.codes"]
            scales = made[f"{name}.weight.scales"]
            group = wanted.group_size or weight.shape[1]
            nearest, grid = round_to_nearest(weight, wanted.bits, group)
            assert (scales == grid).all()
            hessian = inputs[name].T.astype(np.float64) @ inputs[name]
            best = gptq_reference(weight, hessian, scales, wanted.bits, group)
            assert (codes == best).mean() > 0.99, name
            error, rounded = (
                output_error(weight, chosen, scales, inputs[name]) for chosen in (codes, nearest)
            )
            assert error < rounded
            record = read_record(tmp_path, file)
            assert record is not None
            [told] = [entry for entry in record.weights if entry.name == f"{name}.weight"]
            assert (told.error, told.rounded) == pytest.approx((error, rounded), rel=5e-3)
            assert told.damping == 0.01
        for name in step:  # what comes behind sees the codes that were written
            linear = model.get_submodule(name)
            file = "head" if name == "lm_head" else f"layer.000{name.split('.')[2]}"
            made = load_file(tmp_path / f"{file}.safetensors")
            scales = made[f"{name}.weight.scales"]
            repeats = linear.in_features // scales.shape[1]
            values = made[f"{name}.weight.codes"] * np.repeat(scales, repeats, axis=1)
            linear.weight.data = torch.from_numpy(values)


def test_a_tied_head_and_large_states_in_a_file(
    samples: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tied = make_glm_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    calibrate(tied, samples, tmp_path / "memory")
    assert not (tmp_path / "memory" / hidden_states.FILE).exists()
    monkeypatch.setattr(hidden_states, "CALIBRATION_MEMORY_BYTES", 1000)
    calibrate(tied, samples, tmp_path / "file")
    assert (tmp_path / "file" / hidden_states.FILE).stat().st_size == samples.size * 64 * 4
    for name in ("layer.0000", "layer.0001", "head"):
        files = [tmp_path / place / f"{name}.safetensors" for place in ("memory", "file")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert load_file(files[0])["lm_head.weight.codes"].shape == (300, 64)


def test_batches_change_nothing_but_rounding(
    checkpoint: Path, samples: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(checkpoint, samples, tmp_path / "one")
    monkeypatch.setattr(hidden_states, "CALIBRATION_BATCH_TOKENS", 80)  # 2 samples, the last 1
    calibrate(checkpoint, samples, tmp_path / "many")
    one, many = (load_file(tmp_path / name / "layer.0001.safetensors") for name in ("one", "many"))
    for name in one:
        assert (one[name] == many[name]).mean() > 0.99


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tvm_vacc.calibration import run
from tvm_vacc.calibration.options import CalibrationOptions, CodesWanted
from tvm_vacc.frontend.checkpoint import open_checkpoint
def report(progress):
    if progress.done == 1:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint, samples, directory = map(Path, sys.argv[1:])
run.calibrate(open_checkpoint(checkpoint), np.load(samples), CodesWanted(8, 0, True),
              CalibrationOptions(), directory, report)
"""


def test_a_killed_run_goes_on_with_the_layer_it_had_come_to(
    checkpoint: Path, samples: np.ndarray, tmp_path: Path
) -> None:
    directory, whole = tmp_path / "killed", tmp_path / "whole"
    directory.mkdir()
    np.save(tmp_path / "samples.npy", samples)
    paths = [str(path) for path in (checkpoint, tmp_path / "samples.npy", directory)]
    code = subprocess.run([sys.executable, "-c", KILLED, *paths], check=False).returncode
    assert code == -signal.SIGKILL
    assert sorted(path.name for path in directory.glob("layer.*")) == [
        "layer.0000.json",
        "layer.0000.safetensors",
    ]
    first = (directory / "layer.0000.safetensors").stat().st_mtime_ns
    told = calibrate(checkpoint, samples, directory)
    assert (directory / "layer.0000.safetensors").stat().st_mtime_ns == first
    assert [(p.done, p.total, p.skipped) for p in told] == [
        (0, 3, 0),
        (1, 3, 1),
        (2, 3, 1),
        (3, 3, 1),
    ]
    calibrate(checkpoint, samples, whole)
    for name in ("layer.0000", "layer.0001", "head"):
        made, wanted = (load_file(place / f"{name}.safetensors") for place in (directory, whole))
        for tensor in wanted:
            assert (made[tensor] == wanted[tensor]).mean() > 0.999


@pytest.mark.parametrize("damage", ["truncated", "changed", "no record", "torn record"])
def test_a_damaged_layer_and_all_behind_it_are_made_again(
    checkpoint: Path, samples: np.ndarray, tmp_path: Path, damage: str
) -> None:
    calibrate(checkpoint, samples, tmp_path)
    path = tmp_path / "layer.0000.safetensors"
    record = tmp_path / "layer.0000.json"
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no record":
        record.unlink()
    else:
        record.write_bytes(record.read_bytes()[:-2])
    told = calibrate(checkpoint, samples, tmp_path)
    assert [progress.skipped for progress in told] == [0, 0, 0, 0]
    assert path.read_bytes() == content
    assert [p.skipped for p in calibrate(checkpoint, samples, tmp_path)] == [0, 1, 2, 3]


def test_a_device_that_is_not_there(checkpoint: Path, samples: np.ndarray, tmp_path: Path) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    with pytest.raises(
        ConfigError, match=rf"device: no cuda:{count} here, torch finds {count} CUDA"
    ):
        calibrate(checkpoint, samples, tmp_path, device=f"cuda:{count}")


def test_what_is_not_finite_is_one_line(samples: np.ndarray, tmp_path: Path) -> None:
    broken = make_glm_checkpoint(tmp_path / "glm")
    tensor = open_checkpoint(broken).tensors["model.layers.1.input_layernorm.weight"]
    with tensor.file.open("r+b") as stream:
        stream.seek(tensor.offset)
        stream.write(np.float32(np.nan).tobytes())
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.q_proj.*not finite; a model"):
        calibrate(broken, samples, tmp_path / "codes")
