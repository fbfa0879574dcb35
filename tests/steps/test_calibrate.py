"""Codes in the place of weights, made once and found again, and what stops them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relay_passes.weight_plan import CODES, MadeTensor, PackedWeight, Quantized, Source
from tests.frontend.glm_factory import make_glm_checkpoint
from tests.steps.compile_options import small_options
from tvm_vacc.cache.store import Cache
from tvm_vacc.calibration.options import CalibrationOptions
from tvm_vacc.calibration.process import run_calibration
from tvm_vacc.calibration.texts_source import TextSource
from tvm_vacc.child_process import ChildEndedError
from tvm_vacc.config import CompileOptions
from tvm_vacc.errors import CheckpointError, ConfigError, DatasetError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.glm_layout import EMBEDDING, HEAD
from tvm_vacc.quantize.scheme import GPTQ, W8A16, Quantization
from tvm_vacc.steps import calibrate as calibrate_step
from tvm_vacc.steps.calibrate import choose_codes, read_samples
from tvm_vacc.steps.stored_weights import pack_weight

DEMO = Path(__file__).parents[2] / "demo" / "checkpoint"
QUERY = "model.layers.0.self_attn.q_proj.weight"
KEY = "model.layers.0.self_attn.k_proj.weight"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(tmp_path_factory.mktemp("glm") / "tiny", tie_word_embeddings=True)


def with_tokenizer(directory: Path, **config: Any) -> Path:
    make_glm_checkpoint(directory, num_hidden_layers=1, **{"vocab_size": 4096, **config})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, directory / name)
    return directory


def options_for(checkpoint: Path) -> CompileOptions:
    return small_options(
        checkpoint,
        texts=TextSource(nsamples=4, seqlen=24),
        quantization=Quantization("w8a16_gptq", W8A16, GPTQ, 0, head=W8A16, embedding=False),
    )


def entry(kind: Any, quantizer: str, *names: str, rows: int) -> PackedWeight:
    made = (MadeTensor("codes", (rows, 64), "int8"), MadeTensor("scales", (rows, 1), "float32"))
    sources = tuple(map(Source, names))
    return PackedWeight(kind, sources, CODES, made, Quantized(quantizer, "w8a16", 64))


PLAN = (
    entry("embedding", "round_to_nearest", EMBEDDING, rows=4096),
    entry("linear", "gptq", QUERY, KEY, rows=192),
    entry("head", "gptq", EMBEDDING, rows=4096),  # tied
)


def choose(options: CompileOptions, root: Path, plan: Any = PLAN) -> Any:
    cache = Cache(root, "tiny")
    tensors = open_checkpoint(options.checkpoint).tensors
    samples = read_samples(options, lambda _: None)
    chosen = choose_codes(plan, tensors, samples, options, cache, lambda _: None)
    cache.close()
    return chosen, [str(explanation) for explanation in cache.explanations]


def test_codes_take_the_place_of_weights_and_are_found_again(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_for(checkpoint)
    chosen, explained = choose(options, tmp_path)
    assert explained == ["codes: made, it is the first of this artefact"]
    table, linear, head = chosen.plan
    assert table == PLAN[0]
    assert [source.name for source in linear.sources] == [f"{QUERY}.codes", f"{KEY}.codes"]
    assert [source.name for source in head.sources] == [f"{HEAD}.codes"]
    assert (linear.quantized, linear.tensors) == (PLAN[1].quantized, PLAN[1].tensors)
    assert [weight.name for weight in chosen.weights][-1] == HEAD
    tensors = open_checkpoint(checkpoint).tensors
    for made, names in ((linear, (QUERY, KEY)), (head, (EMBEDDING,))):
        codes, scales = pack_weight(made, chosen.sources)
        wanted = np.concatenate([tensors[name].read() for name in names])
        # Half a step of rounding, and what GPTQ moves for the sake of the inputs behind.
        assert np.abs(codes * scales - wanted).max() < 6 * scales.max()
        assert np.corrcoef((codes * scales).ravel(), wanted.ravel())[0, 1] > 0.9999

    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(calibrate_step, "run_calibration", never)
    again, explained = choose(options, tmp_path)
    assert explained == ["codes: reused"]
    assert again == chosen


@pytest.fixture(scope="module")
def calibrated(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the codes of the usual options."""
    root = tmp_path_factory.mktemp("calibrated")
    choose(options_for(checkpoint), root)
    return root


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"texts": TextSource(nsamples=4, seqlen=24, seed=1)}, "samples"),
        ({"calibration": CalibrationOptions(damping=0.02)}, "damping"),
        ({"calibration": CalibrationOptions(act_order=True)}, "act_order"),
    ],
)
def test_what_codes_depend_on_makes_them_anew(
    checkpoint: Path, calibrated: Path, tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    root = shutil.copytree(calibrated, tmp_path / "cache")
    _, explained = choose(dataclasses.replace(options_for(checkpoint), **changed), root)
    assert "made" in explained[0]
    assert why in explained[0]


def test_a_plan_without_calibrated_weights_reads_no_text(checkpoint: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(
        options_for(checkpoint), texts=TextSource(path=tmp_path / "none"), quantization=None
    )
    chosen, explained = choose(options, tmp_path, PLAN[:1])
    assert (chosen.plan, chosen.weights, explained) == (PLAN[:1], (), [])


def test_a_device_that_is_not_there_is_refused_before_any_work(checkpoint: Path) -> None:
    options = dataclasses.replace(
        options_for(checkpoint), calibration=CalibrationOptions(device="cuda:63")
    )
    with pytest.raises(ConfigError, match=r"frontend\.quantize\.device: no cuda:63 here"):
        read_samples(options, lambda _: None)


def test_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: is missing.*put the model's tok"):
        choose(options_for(checkpoint), tmp_path / "cache")


def test_the_tokenizer_of_another_model_is_one_line(tmp_path: Path) -> None:
    checkpoint = with_tokenizer(tmp_path / "glm", vocab_size=300)
    with pytest.raises(CheckpointError, match=r"makes token \d+, the model has 300; put the model"):
        choose(options_for(checkpoint), tmp_path / "cache")


def test_samples_longer_than_the_model_knows(tmp_path: Path) -> None:
    checkpoint = with_tokenizer(tmp_path / "glm", max_position_embeddings=16)
    with pytest.raises(DatasetError, match=r"seqlen: 24, the model knows 16.*write at most 16"):
        choose(options_for(checkpoint), tmp_path / "cache")


def test_a_child_that_dies_is_one_line_and_leaves_what_it_has_made(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: Any) -> None:
        run_calibration(*arguments)
        raise ChildEndedError("signal 9", 9)

    monkeypatch.setattr(calibrate_step, "run_calibration", dies)
    options = options_for(checkpoint)
    with pytest.raises(CheckpointError, match="calibration ended by signal 9; compile again"):
        choose(options, tmp_path)
    [partial] = (tmp_path / "codes").glob("*.part")
    assert (partial / "layer.0000.json").exists()
    monkeypatch.undo()
    chosen, _ = choose(options, tmp_path)
    assert len(chosen.weights) == 7
