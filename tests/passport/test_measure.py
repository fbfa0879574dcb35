"""What is measured of a small model, against transformers in fp32 and NumPy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import tvm_vacc
from tests.frontend.glm_factory import load_oracle, make_glm_checkpoint
from tvm_vacc.artifact.passport import Accuracy
from tvm_vacc.errors import ArtifactError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.passport import measure as module
from tvm_vacc.passport.measure import DECODED, measure, replay
from tvm_vacc.passport.reference import make_reference
from tvm_vacc.passport.reference_files import LOGITS, ReferenceFiles, hidden_file
from tvm_vacc.passport.yardstick import TOP, YARDSTICK_FILE, Predictions
from tvm_vacc.progress import Progress
from tvm_vacc.runtime.model import Model

TOKENS = np.random.default_rng(5).integers(0, 300, 75).tolist()
FIRST = 2
LAYERS = 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_checkpoint(
        tmp_path_factory.mktemp("glm") / "tiny", num_hidden_layers=LAYERS, seed=4
    )


@pytest.fixture(scope="module")
def oracle(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities ``[tokens, vocab]`` and states after each layer ``[layers, tokens, h]``."""
    model, states = load_oracle(checkpoint), []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _layer, _args, made: states.append(made[0].numpy()))
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS]), use_cache=False).logits[0].double()
    return torch.log_softmax(logits, -1).numpy(), np.array(states)


@pytest.fixture(scope="module")
def reference(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reference")
    make_reference(open_checkpoint(checkpoint), TOKENS, FIRST, directory, lambda _: None)
    return directory


@pytest.fixture(scope="module")
def predictions(reference: Path) -> Predictions:
    return Predictions.load(reference / YARDSTICK_FILE)


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("out") / "bf16"
    loaded = tvm_vacc.load(tvm_vacc.compile(checkpoint, output=path, dtype="bf16", prefill=48))
    assert isinstance(loaded, Model)
    return loaded


@pytest.fixture(scope="module")
def accuracy(model: Model, predictions: Predictions, reference: Path) -> Accuracy:
    return measure(model, predictions, ReferenceFiles.open(reference, LAYERS))


def test_the_reference_is_transformers(
    reference: Path, predictions: Predictions, oracle: tuple[np.ndarray, np.ndarray]
) -> None:
    want, states = oracle
    files = ReferenceFiles.open(reference, LAYERS)
    np.testing.assert_allclose(np.array(files.hidden), states, rtol=1e-4, atol=1e-4)
    scored = want[FIRST:-1]
    assert predictions.scored == len(TOKENS) - 1 - FIRST
    following = scored[np.arange(len(scored)), TOKENS[FIRST + 1 :]]
    np.testing.assert_allclose(predictions.next_log_probability, following, atol=1e-4)
    assert predictions.perplexity == pytest.approx(np.exp(-following.mean()), rel=1e-4)
    np.testing.assert_allclose(
        predictions.top_log_probabilities, -np.sort(-scored, -1)[:, :TOP], atol=1e-4
    )


def test_predictions_are_those_of_the_model_against_transformers(
    model: Model,
    predictions: Predictions,
    accuracy: Accuracy,
    oracle: tuple[np.ndarray, np.ndarray],
) -> None:
    want = oracle[0][FIRST:-1]
    logits = torch.from_numpy(model.logits(TOKENS)).double()
    got = torch.log_softmax(logits, -1).numpy()[FIRST:-1]
    kl = (np.exp(want) * (want - got)).sum(-1)
    assert accuracy.kl_mean == pytest.approx(kl.mean(), rel=1e-2)
    assert accuracy.kl_p99 == pytest.approx(np.quantile(kl, 0.99), rel=1e-2)
    assert 0 < accuracy.replay.top_kl_mean <= accuracy.kl_mean
    assert accuracy.replay.top1 == pytest.approx((want.argmax(-1) == got.argmax(-1)).mean())
    following = got[np.arange(len(got)), TOKENS[FIRST + 1 :]]
    assert accuracy.replay.perplexity == pytest.approx(np.exp(-following.mean()), rel=1e-6)
    assert replay(model, predictions) == accuracy.replay


def test_hidden_states_are_those_after_each_layer(accuracy: Accuracy) -> None:
    assert len(accuracy.layers) == LAYERS
    for layer in accuracy.layers:
        assert 1e-5 < layer.relative_error < 2e-2  # bf16 weights; another layer's state is far off
        assert 0.999 < layer.cosine <= 1.0


def test_largest_magnitudes_of_both_kinds_of_steps(
    checkpoint: Path, accuracy: Accuracy, oracle: tuple[np.ndarray, np.ndarray]
) -> None:
    theirs, values = load_oracle(checkpoint), []
    projection = theirs.model.layers[0].self_attn.v_proj
    projection.register_forward_hook(lambda _module, _args, made: values.append(made[0].numpy()))
    with torch.no_grad():
        theirs(torch.tensor([TOKENS]), use_cache=False)
    value, hidden = np.abs(values[0]), np.abs(oracle[1][0])
    split = len(TOKENS) - DECODED
    first = accuracy.layers[0]
    for step, part in ((first.prefill, slice(None, split)), (first.decode, slice(split, None))):
        assert step.value == pytest.approx(value[part].max(), rel=2e-2)
        assert step.hidden == pytest.approx(hidden[part].max(), rel=2e-2)
        assert step.key > 0.1


def test_a_killed_run_is_gone_on_with(
    checkpoint: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(LAYERS - 1):  # the last layer and the logits are still to be made
        (tmp_path / hidden_file(index)).write_bytes((reference / hidden_file(index)).read_bytes())
    (tmp_path / "hidden.0002.partial").write_bytes(b"torn")
    told: list[Progress] = []
    make_reference(open_checkpoint(checkpoint), TOKENS, FIRST, tmp_path, told.append)
    for name in (LOGITS, hidden_file(LAYERS - 1), YARDSTICK_FILE):
        assert (tmp_path / name).read_bytes()[-4096:] == (reference / name).read_bytes()[-4096:]
    assert told[0].done == 0
    assert told[-1].done == told[-1].total
    assert 0 < told[-1].skipped < told[-1].total


def test_keys_that_fp16_cannot_hold_are_named(
    model: Model, predictions: Predictions, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = [dataclasses.replace(cache, dtype="float16") for cache in model.manifest.caches]
    caches[2:4] = model.manifest.caches[2:4]  # layer 1 was promoted
    manifest = dataclasses.replace(model.manifest, caches=tuple(caches))
    monkeypatch.setattr(model, "manifest", manifest)
    files = ReferenceFiles.open(reference, LAYERS)
    assert measure(model, predictions, files).layers
    monkeypatch.setattr(module, "FP16_MAX", 0.01)
    with pytest.raises(ArtifactError, match=r"the keys of layers 0, 2 reach \d.*bf16"):
        measure(model, predictions, files)


def test_what_is_no_number_is_refused(
    model: Model, predictions: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.full((1, 300), np.nan, np.float32)
    monkeypatch.setattr(module, "_steps", lambda *_: [(position, nothing) for position in range(9)])
    with pytest.raises(ArtifactError, match="by what is no number"):
        replay(model, predictions)


def test_a_damaged_yardstick_is_one_line(tmp_path: Path, reference: Path) -> None:
    torn = tmp_path / YARDSTICK_FILE
    torn.write_bytes((reference / YARDSTICK_FILE).read_bytes()[:-200])
    with pytest.raises(ArtifactError, match="is damaged"):
        Predictions.load(torn)
