# ruff: noqa: E501  a table of refusals, one a line
from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config.config_files import BASE, folder, load
from tvm_vacc.config import CompileOptions, Config, load_config
from tvm_vacc.errors import CheckpointError, ConfigError, VaccError

__all__ = ["folder"]

CONFIGS = Path(__file__).parents[2] / "configs"


def test_options_of_a_config(folder: Path) -> None:
    assert load(folder, BASE).compile_options == CompileOptions(
        name="glm-test",
        checkpoint=folder / "model",
        type="huggingface",
        prefill=1024,
        context=2048,
        input_shapes={},
        dtype="fp16",
        tp=1,
        merge_params=True,
        workspace=folder / "out",
        workers=4,
    )


@pytest.mark.parametrize("lengths", ["[[1024], [2048]]", "[[1, 1024], [1, 2048]]"])
def test_both_forms_of_the_lengths(folder: Path, lengths: str) -> None:
    options = load(folder, BASE.replace("[[1024], [2048]]", lengths)).compile_options
    assert (options.prefill, options.context) == (1024, 2048)


def test_a_graph_may_have_static_shapes_or_none(folder: Path) -> None:
    text = BASE.replace("checkpoint: model", "checkpoint: graph.onnx")
    text = text.replace("huggingface", "onnx").replace(
        "input_ids: [[1024], [2048]]", "text: [1, 77]"
    )
    options = load(folder, text).compile_options
    assert options.input_shapes == {"text": (1, 77)}
    assert (options.prefill, options.context) == (0, 0)
    without = text.replace("  shape:\n    text: [1, 77]\n", "")
    assert load(folder, without).compile_options.input_shapes == {}


def test_home_and_absolute_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    text = BASE.replace("checkpoint: model", "checkpoint: ~/model").replace(
        "out", "/somewhere/else"
    )
    options = load(folder, text).compile_options
    assert options.checkpoint == folder / "model"
    assert options.workspace == Path("/somewhere/else")


# What replaces what in BASE; what the line says; its cure.
REFUSALS = {
    "misspelt": ("checkpoint:", "chekpoint:", "frontend.chekpoint", "mean frontend.checkpoint?"),
    "elsewhere": ("workers: 4", "tp: 1", "workspace.tp", "did you mean frontend.model_kwargs.tp?"),
    "unknown": ("workers: 4", "xyzzy: 1", "workspace.xyzzy", "known keys here: path, workers"),
    "missing": ("  dtype: fp16\n", "", "backend.dtype is missing", "add backend.dtype"),
    "twice": ("  workers: 4", "  workers: 4\n  workers: 5", "line 15: the key 'workers'", "correct"),
    "type": ("workers: 4", "workers: four", "workspace.workers: must be a valid integer, got 'four'", "correct"),
    "bool": ("workers: 4", "workers: true", "workspace.workers: must be a valid integer, got True", "correct"),
    "quotes": ("glm-test", "2024", "name: must be a valid string, got 2024", "quotes"),
    "mapping": ("frontend:", "dataset: [1]\nfrontend:", "dataset: must be a mapping, got [1]", "correct"),
    "zero": ("workers: 4", "workers: 0", "workspace.workers: must be greater", "correct"),
    "name": ("glm-test", "../glm", "name: '../glm' cannot name", "letter"),
    "long name": ("glm-test", "你" * 43, "name: '你", "at most 128 bytes"),
    "length": ("[1024]", "[1000]", "frontend.shape.input_ids: 1000 is no multiple", "write 1008"),
    "order": ("[1024]", "[4096]", "input_ids: the prefill bucket 4096", "[[2048], [4096]]"),
    "batch": ("[1024]", "[2, 1024]", "input_ids: the batch must be 1, got 2", "[[1024], [2048]]"),
    "long": ("[2048]", "[2097152]", "input_ids: 2097152 is more than 1048576", "smaller"),
    "flat": ("[[1024], [2048]]", "[1, 77]", "input_ids: [[prefill], [context]] is needed", "[[1024]"),
    "three": ("[[1024], [2048]]", "[[16], [32], [48]]", "input_ids: must be [[prefill]", "[[1024]"),
    "empty": ("[[1024], [2048]]", "[[], []]", "input_ids: must hold one length", "[[1024]"),
    "text": ("[1024]", "['1024']", "input_ids: must hold one length", "[[1024]"),
    "other": ("input_ids:", "ids:", "shape.ids: must be [[prefill]", "input_ids"),
    "no shape": ("  shape:\n    input_ids: [[1024], [2048]]\n", "", "frontend.shape.input_ids", "[[1024]"),
    "int8": ("fp16", "int8", "backend.dtype: int8", "write fp16, bf16 or fp32"),
    "dtype": ("fp16", "fp8", "backend.dtype: must be 'fp16', 'bf16', 'fp32' or 'int8', got 'fp8'", "correct"),
    "tp": ("tp: 1", "tp: 4", "frontend.model_kwargs.tp: 4 ranks", "write tp: 1"),
    "odd tp": ("tp: 1", "tp: 3", "frontend.model_kwargs.tp: must be 1, 2, 4 or 8, got 3", "correct"),
    "samples": (
        "tp: 1",
        "tp: 1\n  quantize: {type: w8a16_gptq, calib_args: {nsamples: 4}}\ndataset: {nsamples: 5}",
        "frontend.quantize.calib_args.nsamples: 4, and dataset.nsamples is 5",
        "write one of the two",
    ),
    "kv8 head": (
        "tp: 1",
        "tp: 1\n  quantize: {type: w16kv8, head: 8bit}",
        "frontend.quantize.head: w16kv8 leaves the weights",
        "w8a16_kv8",
    ),
    "kv8 of a graph": (
        "type: huggingface",
        "type: onnx\n  quantize: {type: w8a16_kv8}",
        "frontend.quantize.type: w8a16_kv8: the KV cache is a checkpoint's",
        "without kv8",
    ),
    "group": ("tp: 1", "tp: 1\n  quantize: {type: w4a16, group_size: 48}", "quantize.group_size: must be 32, 64 or 128", "correct"),
    "head": ("tp: 1", "tp: 1\n  quantize: {type: w4a16, head: 4bit}", "quantize.head: must be '16bit' or '8bit'", "correct"),
    "quantize": ("tp: 1", "tp: 1\n  quantize: {type: w4}", "frontend.quantize.type: must be", "correct"),
    "calib": (
        "tp: 1",
        "tp: 1\n  quantize: {type: w8a8, calib_args: {damping: 1.5}}",
        "frontend.quantize.calib_args.damping: must be less than 1, got 1.5",
        "correct",
    ),
    "device": ("tp: 1", "tp: 1\n  quantize: {type: w8a8, device: gpu}", "quantize.device", "write cpu"),
    "no dataset": ("workspace:", "dataset: {name: c4}\nworkspace:", "dataset.path: the text of c4", "nothing is downloaded"),
    "seed": ("workspace:", "dataset: {seed: -1}\nworkspace:", "dataset.seed: must be greater", "correct"),
    "dataset": ("workspace:", "dataset: {name: pile, path: x}\nworkspace:", "dataset.name: must be", "correct"),
    "backend": ("tvm_vacc", "llvm", "backend.type: must be 'tvm_vacc', got 'llvm'", "correct"),
    "no directory": ("checkpoint: model", "checkpoint: none", "frontend.checkpoint: no such dir", "give"),
    "no file": ("huggingface", "onnx", "frontend.checkpoint: no such .onnx file", "give an .onnx file"),
    "no path": ("checkpoint: model", "checkpoint: ''", "frontend.checkpoint: '' is no path", "write"),
    "no home": ("checkpoint: model", "checkpoint: ~no-such-user/x", "frontend.checkpoint", "write"),
    "infinite": ("workers: 4", "workers: .inf", "no plain type", "correct"),
    "binary": ("glm-test", "!!binary aGFsbG8=", "no plain type", "correct"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_file_key_and_cure(folder: Path, case: str) -> None:
    old, new, message, cure = REFUSALS[case]
    assert old in BASE
    with pytest.raises(ConfigError) as caught:
        load(folder, BASE.replace(old, new, 1))
    line = str(caught.value)
    assert line.startswith(f"{folder / 'c.yaml'}: ")
    assert message in line
    assert cure in line.rpartition("; ")[2]
    assert "\n" not in line


@pytest.mark.parametrize("text", ["", "[]", "text", "3"])
def test_a_document_that_is_no_mapping_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml: the document: must be a mapping"):
        load(folder, text)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file; give a YAML config"):
        load_config(tmp_path / "none.yaml")


def test_keys_without_effect_are_noted(folder: Path) -> None:
    assert load(folder, BASE).notes == ()
    text = BASE.replace("tp: 1", "tp: 1\n    b2s: true").replace(
        "workspace:",
        "  compile: {data_type: 0}\ndataset: {name: c4, path: c4.json.gz, seqlen: 512}\nworkspace:",
    )
    notes = load(folder, text).notes
    assert [note.split()[0] for note in notes] == [
        "frontend.model_kwargs.b2s",
        "backend.compile.data_type",
        "dataset",
    ]


def test_a_config_is_frozen(folder: Path) -> None:
    config = load(folder, BASE)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["fp16", "int8", "kv8"])
def test_the_config_as_deployed_loads_but_for_its_placeholder(folder: Path, name: str) -> None:
    text = (CONFIGS / f"hf_chatglm_{name}.yaml").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match=r"frontend\.checkpoint: no such directory: /path/to"):
        load(folder, text)
    config = load(folder, text.replace("/path/to/glm-4-9b-hf", "model"))
    assert config.compile_options.output == folder / "vacc_deploy" / config.name
    assert config.frontend.model_kwargs.b2s
    assert config.backend.compile.gather_data_vccl_dsp_enable
    quantization = config.compile_options.quantization
    assert (quantization.type if quantization else "fp16") == {
        "int8": "w8a16_gptq",
        "kv8": "w16kv8",
    }.get(name, name)


@pytest.mark.parametrize(("name", "type_"), [("demo", None), ("demo_int8", "w8a16")])
def test_the_demo_config_names_the_demo_checkpoint(
    folder: Path, name: str, type_: str | None
) -> None:
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    (folder / "demo" / "checkpoint").mkdir(parents=True)
    (folder / "configs").mkdir()
    options = load(folder / "configs", text).compile_options
    assert options.checkpoint == folder / "demo" / "checkpoint"
    assert (options.prefill, options.context, options.dtype) == (256, 2048, "bf16")
    assert options.workspace == folder / "workspace"
    assert (options.quantization.type if options.quantization else None) == type_


def checkpoint(folder: Path, **config: object) -> Path:
    (folder / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "model"


@pytest.mark.parametrize(
    ("config", "given", "expected"),
    [
        ({"dtype": "bfloat16", "max_position_embeddings": 131072}, {}, ("bf16", 512, 2048)),
        ({"torch_dtype": "float16", "seq_length": 8192}, {}, ("fp16", 512, 2048)),
        ({"dtype": "float32", "max_position_embeddings": 100}, {}, ("fp32", 96, 96)),
        ({}, {}, ("fp32", 512, 2048)),
        ({}, {"dtype": "fp16", "context": 256}, ("fp16", 256, 256)),
        ({}, {"prefill": 4096}, ("fp32", 4096, 4096)),
        ({}, {"prefill": 16, "context": 64}, ("fp32", 16, 64)),
    ],
)
def test_config_for_a_checkpoint(
    folder: Path, config: dict[str, object], given: dict[str, object], expected: tuple[object, ...]
) -> None:
    options = Config.for_checkpoint(checkpoint(folder, **config), **given).compile_options  # type: ignore[arg-type]
    assert (options.dtype, options.prefill, options.context) == expected
    assert options.checkpoint == folder / "model"
    assert options.name == f"model-{expected[0]}"
    assert options.workspace == Path.cwd() / "workspace"


def test_config_for_a_graph(folder: Path) -> None:
    options = Config.for_checkpoint(folder / "graph.onnx").compile_options
    assert (options.type, options.dtype, options.context) == ("onnx", "fp32", 0)
    assert options.name == "graph-fp32"


def test_config_for_a_checkpoint_refuses(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: no such file; give"):
        Config.for_checkpoint(folder / "model")
    path = checkpoint(folder)
    with pytest.raises(ConfigError, match="input_ids: 100 is no multiple of 16; write 112"):
        Config.for_checkpoint(path, context=100)
    with pytest.raises(ConfigError, match=r"backend\.dtype: int8"):
        Config.for_checkpoint(path, dtype="int8")
    (folder / "notes.txt").write_text("text")
    cases = {"none": "no such file or directory; give", "~no-user/x": "home", "a\0": "no such file"}
    for name, message in (cases | {"notes.txt": "no such .onnx file"}).items():
        with pytest.raises(ConfigError, match=message):
            Config.for_checkpoint(name if name.startswith("~") else folder / name)
    for value in (0, -16):
        with pytest.raises(ConfigError, match="input_ids"):
            Config.for_checkpoint(path, context=value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_stands_in_a_key_only_our_errors_escape(folder: Path, data: st.DataObject) -> None:
    document = yaml.safe_load(BASE)
    section = data.draw(
        st.sampled_from([document, *[document[k] for k in document if k != "name"]])
    )
    key = data.draw(st.sampled_from(sorted(section)) | st.text())
    section[key] = data.draw(VALUES)
    with contextlib.suppress(VaccError):
        load(folder, yaml.safe_dump(document, allow_unicode=True))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(position=st.integers(0, len(BASE)), junk=st.binary(max_size=8))
def test_whatever_bytes_a_file_holds_only_our_errors_escape(
    folder: Path, position: int, junk: bytes
) -> None:
    path = folder / "c.yaml"
    path.write_bytes(BASE.encode()[:position] + junk + BASE.encode()[position + len(junk) :])
    with contextlib.suppress(VaccError):
        load_config(path)
