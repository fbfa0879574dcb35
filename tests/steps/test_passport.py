"""The passport that a compile writes, what `tvmc verify` makes of it, and what `compare` says."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import tvm_vacc
from tests.frontend.glm_factory import load_oracle, make_glm_checkpoint
from tests.passport.models import TOKENS, config_of, make_speaking_checkpoint, passport_of
from tests.tvmc.conftest import Tvmc, tvmc  # noqa: F401 # a fixture
from tvm_vacc.artifact.manifest import FileEntry, Manifest, read_manifest
from tvm_vacc.artifact.processor import Processor
from tvm_vacc.cache.explain import Explanation
from tvm_vacc.child_process import ChildEndedError
from tvm_vacc.config import Config
from tvm_vacc.errors import ArtifactError, ConfigError, VaccWarning
from tvm_vacc.passport.yardstick import YARDSTICK_FILE, Predictions
from tvm_vacc.runtime.model import Model
from tvm_vacc.runtime.tokenizer import Tokenizer
from tvm_vacc.safe_io import sha256_file
from tvm_vacc.steps import passport as passport_step
from tvm_vacc.target import processor_of
from tvm_vacc.target_string import make_target


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_speaking_checkpoint(tmp_path_factory.mktemp("glm") / "tiny")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def artefact(checkpoint: Path, workspace: Path) -> Path:
    return tvm_vacc.compile(config_of(checkpoint, workspace))


def test_the_figures_are_those_against_transformers(artefact: Path, checkpoint: Path) -> None:
    passport, model = passport_of(artefact), tvm_vacc.load(artefact)
    assert isinstance(model, Model)
    tokens = Predictions.load(artefact / YARDSTICK_FILE).tokens.tolist()
    assert len(tokens) == TOKENS
    prefix = Tokenizer.from_directory(checkpoint).encode("")
    assert tokens[: len(prefix)] == prefix
    with torch.no_grad():
        theirs = load_oracle(checkpoint)(torch.tensor([tokens])).logits[0].double()
    scored = slice(len(prefix) - 1, -1)
    want = torch.log_softmax(theirs, -1).numpy()[scored]
    got = torch.log_softmax(torch.from_numpy(model.logits(tokens)).double(), -1).numpy()[scored]
    kl = (np.exp(want) * (want - got)).sum(-1)
    assert passport.accuracy is not None
    assert passport.accuracy.kl_mean == pytest.approx(kl.mean(), rel=1e-2)
    following = want[np.arange(len(want)), tokens[len(prefix) :]]
    assert passport.reference_perplexity == pytest.approx(np.exp(-following.mean()), rel=1e-3)
    assert passport.tokens == TOKENS - len(prefix)
    assert len(passport.accuracy.layers) == model.spec.layers


def test_nothing_is_measured_twice(artefact: Path, checkpoint: Path, workspace: Path) -> None:
    before, made = passport_of(artefact), set[str]()

    def note(explanation: Explanation) -> None:
        if not explanation.reused:
            made.add(explanation.piece)

    tvm_vacc.compile(config_of(checkpoint, workspace), explain=note)
    assert made == set()
    assert passport_of(artefact) == before
    tvm_vacc.compile(config_of(checkpoint, workspace, tolerance=0.25), explain=note)
    assert made == set()
    assert passport_of(artefact) == dataclasses.replace(before, tolerance=0.25)


def test_verify_finds_what_is_stated(
    tvmc: Tvmc,  # noqa: F811
    artefact: Path,
) -> None:
    code, out, _ = tvmc("verify", artefact)
    assert code == 0, out
    assert "As stated, within" in out
    here, stated = out.splitlines()[1].split()[1:]
    assert float(here) == pytest.approx(float(stated), rel=1e-4)


@pytest.fixture
def copy(artefact: Path, tmp_path: Path) -> Path:
    """An artefact that a test may change."""
    return shutil.copytree(artefact, tmp_path / "copy")


def describe(copy: Path, manifest: Manifest) -> None:
    """Describe a changed artefact anew, its files' hashes included."""
    files = {
        name: FileEntry(sha256_file(copy / name), (copy / name).stat().st_size)
        for name in manifest.files
    }
    changed = dataclasses.replace(manifest, files=files)
    (copy / "manifest.json").write_text(changed.to_json(), "utf-8")


def test_a_damaged_weight_is_found_though_every_hash_is_right(
    tvmc: Tvmc,  # noqa: F811
    copy: Path,
) -> None:
    manifest = read_manifest(copy / "manifest.json")
    made_of = ("model.layers.1.mlp.down_proj.weight",)
    name = next(name for name, sources in manifest.sources.items() if sources == made_of)
    damage(copy / "weights.safetensors", name)
    describe(copy, manifest)
    assert tvmc("inspect", copy, "--verify")[0] == 0
    code, _, err = tvmc("verify", copy)
    assert code == 4
    last = err.splitlines()[-1]
    assert last.startswith(f"Error: {copy}: its mean KL divergence is ")
    assert "its manifest states" in last


def damage(path: Path, name: str) -> None:
    """Turn the signs of a part of one tensor in a safetensors file."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    begin, _ = json.loads(data[8 : 8 + size])[name]["data_offsets"]
    start = 8 + size + begin
    for index in range(start + 1, start + 1024, 2):
        data[index] ^= 0x80
    path.write_bytes(data)


def test_an_artefact_without_a_passport_cannot_be_verified(
    tvmc: Tvmc,  # noqa: F811
    copy: Path,
) -> None:
    manifest = read_manifest(copy / "manifest.json")
    describe(copy, dataclasses.replace(manifest, passport=None))
    code, _, err = tvmc("verify", copy)
    assert code == 4
    assert err.startswith(f"Error: {copy}: has no accuracy passport; compile it again")


def test_what_was_not_measured_is_measured_by_verify(
    tvmc: Tvmc,  # noqa: F811
    copy: Path,
) -> None:
    manifest = read_manifest(copy / "manifest.json")
    assert manifest.passport is not None
    unmeasured = dataclasses.replace(manifest.passport, accuracy=None, note="it is for riscv64")
    describe(copy, dataclasses.replace(manifest, passport=unmeasured))
    code, out, _ = tvmc("verify", copy)
    assert code == 0
    assert "The manifest states nothing to hold this against: it is for riscv64." in out


def test_compare_names_module_and_operator(
    tvmc: Tvmc,  # noqa: F811
    artefact: Path,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    code, out, _ = tvmc("compare", artefact, checkpoint, "--tokens", 9)
    assert code == 0
    assert "They agree within 0.01, on 9 tokens." in out
    other = make_glm_checkpoint(tmp_path / "other", vocab_size=4096, seed=1)
    code, out, err = tvmc("compare", artefact, other, "--prompt", "In the beginning")
    assert code == 4
    assert err.startswith(
        f"Error: {artefact}: parts from {other} at model.embed_tokens (embedding)"
    )
    assert "model.layers.1.self_attn.o_proj" in out


def test_no_passport_where_none_can_be(checkpoint: Path, tmp_path: Path) -> None:
    options = Config.for_checkpoint(checkpoint).compile_options
    assert passport_step.why_no_passport(options) == ""
    without = dataclasses.replace(options, accuracy=None)
    assert passport_step.why_no_passport(without) == "not asked for"
    onnx = dataclasses.replace(options, type="onnx")
    assert "has no checkpoint" in passport_step.why_no_passport(onnx)
    silent = dataclasses.replace(options, checkpoint=make_glm_checkpoint(tmp_path / "silent"))
    assert passport_step.why_no_passport(silent) == "the checkpoint has no tokenizer.json"


def test_a_text_that_is_too_short_is_refused_before_the_reference_runs(
    checkpoint: Path, workspace: Path, tmp_path: Path
) -> None:
    text = tmp_path / "short.txt"
    text.write_text("Too short.")
    with pytest.raises(ConfigError, match=r"accuracy\.tokens: .*short\.txt has \d+ tokens, 90"):
        tvm_vacc.compile(config_of(checkpoint, workspace, text=str(text)))


def test_code_for_another_processor_is_not_measured() -> None:
    plain = Manifest(name="x", kind="graph", target="tvm_vacc", dtype="fp32")
    assert "C sources" in passport_step._why_not_here(plain)
    foreign = dataclasses.replace(plain, processor=Processor("s390x-linux-gnu", ()))
    assert "it is compiled for s390x-linux-gnu" in passport_step._why_not_here(foreign)
    native = processor_of(make_target("tvm_vacc -mcpu=native"))
    here = dataclasses.replace(plain, processor=native)
    assert passport_step._why_not_here(here) == ""


@pytest.mark.parametrize(("number", "is_noted"), [(4, True), (11, False)])
def test_an_illegal_instruction_is_noted_and_any_other_crash_is_an_error(
    checkpoint: Path,
    workspace: Path,
    artefact: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    is_noted: bool,
) -> None:
    def crash(*_: object) -> None:
        raise ChildEndedError(f"signal {number}", number)

    monkeypatch.setattr(passport_step, "run_measure", crash)
    config = config_of(checkpoint, workspace, tokens=TOKENS + number)
    if not is_noted:
        with pytest.raises(ArtifactError, match="running it ended by signal 11"):
            tvm_vacc.compile(config, output=workspace / "other")
        return
    passport = passport_of(tvm_vacc.compile(config, output=workspace / "other"))
    assert passport.accuracy is None
    assert "lacks an instruction" in passport.note


def test_keys_near_the_end_of_fp16_are_a_warning(artefact: Path) -> None:
    manifest = read_manifest(artefact / "manifest.json")
    accuracy = passport_of(artefact).accuracy
    assert accuracy is not None
    first, *others = accuracy.layers
    near = dataclasses.replace(first.decode, key=40_000.0)
    layers = (*others, dataclasses.replace(first, decode=near))
    with pytest.warns(VaccWarning, match=r"keys or values of layer 1 come within"):
        passport_step._warn_of_fp16(dataclasses.replace(accuracy, layers=layers), manifest)
