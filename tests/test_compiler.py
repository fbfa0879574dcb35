"""The compiler's own decisions; that the result is right is the business of tests/e2e."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tvm_vacc
from relay_passes.weight_plan import PackedWeight
from tests.frontend.glm_factory import make_glm_checkpoint
from tvm_vacc import compiler
from tvm_vacc.artifact.store import open_artifact
from tvm_vacc.cache.store import DIRECTORY
from tvm_vacc.errors import ArtifactError, CheckpointError, ConfigError, PassError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.pipeline import Step
from tvm_vacc.progress import Progress
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.steps import weight_stream


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_checkpoint(tmp_path_factory.mktemp("glm") / "tiny", num_hidden_layers=1)


def mlp(path: Path) -> Path:
    """Two linears with a ReLU between them, symbolic batch."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.standard_normal((17, 33), dtype=np.float32),
        "b0": rng.standard_normal(33, dtype=np.float32),
        "w1": rng.standard_normal((33, 5), dtype=np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w0"], ["h0"]),
            helper.make_node("Add", ["h0", "b0"], ["h1"]),
            helper.make_node("Relu", ["h1"], ["h2"]),
            helper.make_node("MatMul", ["h2", "w1"], ["h3"]),
            helper.make_node("Softmax", ["h3"], ["y"], axis=-1),
        ],
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 17])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("external", [False, True])
def test_a_plain_onnx_model_equals_onnx_runtime(tmp_path: Path, external: bool) -> None:
    path = mlp(tmp_path / "mlp.onnx")
    if external:
        model = onnx.load(path)
        onnx.save(model, path, save_as_external_data=True, location="mlp.data", size_threshold=0)
    graph = tvm_vacc.load(tvm_vacc.compile(path, output=tmp_path / "out"))
    assert isinstance(graph, Graph)
    session = onnxruntime.InferenceSession(path)
    for batch in (1, 3, 20):
        x = np.random.default_rng(batch).standard_normal((batch, 17), dtype=np.float32)
        [want] = session.run(None, {"x": x})
        np.testing.assert_allclose(graph.run({"x": x})["y"], want, rtol=1e-5, atol=1e-6)
    in_file = graph.manifest.parameters
    assert len(in_file) == (3 if external else 2)


def test_a_weight_beyond_fp16_names_tensor_and_cure(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    copy = tmp_path / "large"
    shutil.copytree(checkpoint, copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["model.layers.0.mlp.down_proj.weight"][3, 5] = 7e4
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"mlp.down_proj.weight holds 70000, .*bf16"):
        tvm_vacc.compile(copy, output=tmp_path / "out", dtype="fp16")
    assert not (tmp_path / "out").exists()


def test_a_context_beyond_the_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="knows 2048 positions, the context is 4096"):
        tvm_vacc.compile(checkpoint, output=tmp_path / "out", context=4096)


def test_arguments_beside_a_config_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"name: x\nfrontend:\n  checkpoint: {checkpoint}\n  type: huggingface\n"
        "  shape:\n    input_ids: [[16], [32]]\n"
        "backend:\n  type: tvm_vacc\n  dtype: fp32\nworkspace:\n  path: w\n"
    )
    assert compiler.resolve_options(config).context == 32
    with pytest.raises(ConfigError, match="dtype is given beside a config"):
        compiler.resolve_options(config, dtype="fp16")


def test_a_pass_that_misses_a_layer_stops_the_compile(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compiler.glm_pipeline

    def blind(*args: object, **kwargs: object) -> tuple[Step, ...]:
        return tuple(
            Step(step.run, (2,)) if step.run.name == "fuse_gqa_attention" else step
            for step in real(*args, **kwargs)  # type: ignore[arg-type]
        )

    monkeypatch.setattr(compiler, "glm_pipeline", blind)
    with pytest.raises(PassError, match="fuse_gqa_attention matched 1 times, this model needs 2"):
        tvm_vacc.compile(checkpoint, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_in_files_of_their_own(checkpoint: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"name: x\nfrontend:\n  checkpoint: {checkpoint}\n  type: huggingface\n"
        "  shape:\n    input_ids: [[16], [32]]\n"
        "backend:\n  type: tvm_vacc\n  dtype: bf16\n  merge_params: false\n"
        "workspace:\n  path: w\n"
    )
    path = tvm_vacc.compile(config)
    assert path == tmp_path / "w" / "x"
    manifest = open_artifact(path, verify=True).manifest
    assert len(manifest.weights) == len(manifest.parameters) > 10
    assert tvm_vacc.load(path).logits([1, 2, 3]).shape == (3, 300)  # type: ignore[union-attr]


CONFIG = """name: x
frontend:
  checkpoint: {checkpoint}
  type: huggingface
  shape:
    input_ids: [[{prefill}], [{context}]]
backend:
  type: tvm_vacc
  dtype: {dtype}
  merge_params: {merge}
workspace:
  path: w
  workers: {workers}
"""

KEYS = {
    "prefill": 16,
    "context": 32,
    "dtype": "bf16",
    "merge": "true",
    "workers": 1,
}


@pytest.fixture(scope="module")
def compiled(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a config and the workspace that compiling it has made."""
    directory = tmp_path_factory.mktemp("compiled")
    found = compiled_with(directory, {**KEYS, "checkpoint": checkpoint})
    assert found == dict.fromkeys(
        ("graph", "passes", "kernels", "weights"), "it is the first of this artefact"
    )
    return directory


@pytest.fixture
def workspace(compiled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(compiled, tmp_path / "copy")


def test_what_is_remade_is_what_a_fresh_compile_makes(checkpoint: Path, workspace: Path) -> None:
    """Which key remakes what: `tests/test_compiler_pieces.py`."""
    changed = {"workers": 2, "context": 64, "prefill": 32, "dtype": "fp16", "merge": "false"}
    found = compiled_with(workspace, {**KEYS, "checkpoint": checkpoint, **changed})
    assert {piece for piece, reason in found.items() if reason} == {"passes", "kernels", "weights"}
    manifest = open_artifact(workspace / "w" / "x", verify=True).manifest
    assert (manifest.context, manifest.prefill, manifest.dtype) == (64, 32, "fp16")
    assert len(manifest.weights) > 1
    want = tvm_vacc.compile(
        checkpoint, output=workspace / "fresh", dtype="fp16", prefill=32, context=64
    )
    logits = [tvm_vacc.load(path).logits([1, 2, 3]) for path in (want, workspace / "w" / "x")]  # type: ignore[union-attr]
    np.testing.assert_array_equal(*logits)


def compiled_with(directory: Path, keys: dict[str, object]) -> dict[str, str]:
    """Compile by a config; return why each kind of piece was made, nothing where it was reused."""
    (directory / "c.yaml").write_text(CONFIG.format(**keys))
    found: dict[str, str] = {}
    tvm_vacc.compile(
        directory / "c.yaml",
        explain=lambda told: found.update({told.piece.split()[0]: told.reason}),
    )
    return found


def test_what_is_in_the_cache_is_held_against_its_hash(checkpoint: Path, workspace: Path) -> None:
    keys = {**KEYS, "checkpoint": checkpoint}
    compiled_with(workspace, keys)
    path = workspace / "w" / "x" / "weights.safetensors"
    whole = path.read_bytes()
    with path.open("r+b") as stream:  # the artefact's file is the cache's
        stream.seek(len(whole) // 2)
        stream.write(b"damage")
    os.utime(path, ns=(1, 1))
    assert compiled_with(workspace, keys) == {
        "graph": "",
        "passes": "",
        "kernels": "",
        "weights": "weights.safetensors in the cache is damaged",
    }
    assert path.read_bytes() == whole


def test_a_changed_checkpoint_is_packed_again(
    checkpoint: Path, workspace: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(checkpoint, copy)
    before = tvm_vacc.load(workspace / "w" / "x").logits([1, 2, 3])  # type: ignore[union-attr]
    head = open_checkpoint(copy).tensors["lm_head.weight"]
    doubled = np.memmap(head.file, head.dtype, "r+", head.offset, head.shape)
    doubled[:] *= 2
    doubled.flush()
    found = compiled_with(workspace, {**KEYS, "checkpoint": copy})
    assert (found["graph"], found["kernels"]) == ("", "")
    assert "file model.safetensors: " in found["weights"]
    after = tvm_vacc.load(workspace / "w" / "x").logits([1, 2, 3])  # type: ignore[union-attr]
    np.testing.assert_allclose(after, 2 * before, rtol=1e-5, atol=1e-6)


def test_an_interrupted_compile_goes_on(
    checkpoint: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(workspace / "w" / DIRECTORY / "weights")
    old = open_artifact(workspace / "w" / "x").identity
    real = weight_stream.pack_weight
    packed: list[str] = []

    def stop_at_the_tenth(weight: PackedWeight, sources: dict[str, TensorRef]) -> object:
        packed.append(weight.name)
        if len(packed) == 10:
            raise KeyboardInterrupt
        return real(weight, sources)

    monkeypatch.setattr(weight_stream, "pack_weight", stop_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        compiled_with(workspace, {**KEYS, "checkpoint": checkpoint})
    assert open_artifact(workspace / "w" / "x").identity == old
    found = compiled_with(workspace, {**KEYS, "checkpoint": checkpoint})
    assert (found["graph"], found["kernels"]) == ("", "")
    assert not set(packed[:7]) & set(packed[10:])
    assert open_artifact(workspace / "w" / "x", verify=True).identity != old
    assert not list((workspace / "w").rglob("*.part"))


def test_a_disk_without_room_is_refused_before_the_export(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1000))
    told: list[Progress] = []
    with pytest.raises(ArtifactError, match=r"the weights need .* 0 MiB are free"):
        tvm_vacc.compile(checkpoint, output=tmp_path / "out", progress=told.append)
    assert not told
    assert not (tmp_path / "out").exists()
