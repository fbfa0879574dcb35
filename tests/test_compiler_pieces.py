"""Which pieces of a compile each key of a config touches; all others come out of the cache.

Kernels are not compiled here: what they are made of decides whether they would be.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tvm import ir

from tests.frontend.glm_factory import load_weights, make_glm_checkpoint, write_weights
from tvm_vacc import compiler
from tvm_vacc.artifact.kernel_files import SHARED_LIBRARY
from tvm_vacc.steps import kernels as kernels_step
from tvm_vacc.steps.write_kernels import REPORTS

DEMO = Path(__file__).parents[1] / "demo" / "checkpoint"

Found = dict[str, str]
"""By the name of a piece why it was made; empty: it was reused."""


@pytest.fixture(autouse=True)
def _no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(
        _module: ir.IRModule, _target: Any, _linker: Any, directory: Path, *_: Any
    ) -> Sequence[str]:
        (directory / SHARED_LIBRARY).write_bytes(b"code")
        (directory / REPORTS).write_text("[]")
        return SHARED_LIBRARY, REPORTS

    monkeypatch.setattr(kernels_step, "write_kernels", write)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and the same one in two files."""
    root = tmp_path_factory.mktemp("models")
    glm = make_glm_checkpoint(
        root / "glm", num_hidden_layers=1, vocab_size=4096, intermediate_size=128
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, glm / name)
    shutil.copytree(glm, root / "sharded")
    (root / "sharded" / "model.safetensors").unlink()
    write_weights(root / "sharded", load_weights(glm), shards=2)
    return root


def compiled(
    directory: Path, models: Path, keys: dict[str, Any], target: str = "tvm_vacc"
) -> Found:
    """Compile by a config of few keys that are told by dots."""
    document: dict[str, Any] = {}
    defaults = {
        "name": "x",
        "frontend.checkpoint": "glm",
        "frontend.type": "huggingface",
        "frontend.shape.input_ids": [[16], [32]],
        "backend.type": "tvm_vacc",
        "backend.dtype": "bf16",
        "workspace.path": "w",
        "dataset.nsamples": 2,
        "dataset.seqlen": 16,
        "accuracy": False,
    }
    for name, value in (defaults | keys).items():
        *sections, last = name.split(".")
        section = document
        for step in sections:
            section = section.setdefault(step, {})
        section[last] = value
    document["frontend"]["checkpoint"] = str(models / document["frontend"]["checkpoint"])
    (directory / "c.yaml").write_text(yaml.safe_dump(document))
    found: Found = {}
    compiler.compile(
        directory / "c.yaml",
        target=target,
        explain=lambda told: found.update({told.piece.split()[0]: told.reason}),
    )
    return found


TYPE = "frontend.quantize.type"
BASES: dict[str, dict[str, Any]] = {
    "plain": {},
    **{name: {TYPE: name} for name in ("w8a16", "w8a8", "w4a16", "w8a16_gptq")},
}


@pytest.fixture(scope="module")
def exported(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose cache holds what the first base is made of."""
    directory = tmp_path_factory.mktemp("exported")
    found = compiled(directory, models, BASES["plain"])
    assert list(found) == ["graph", "passes", "kernels", "weights"]
    assert set(found.values()) == {"it is the first of this artefact"}
    return directory


@pytest.fixture(scope="module")
def workspaces() -> dict[str, Path]:
    """By base, the workspaces in which one was compiled."""
    return {}


@pytest.fixture
def workspace(
    base: str,
    exported: Path,
    workspaces: dict[str, Path],
    models: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> Path:
    """A copy of a workspace in which a base was compiled."""
    if base not in workspaces:
        directory = tmp_path_factory.mktemp(base) / "first"
        workspaces[base] = shutil.copytree(exported, directory)
        compiled(directory, models, BASES[base])
    copy = shutil.copytree(workspaces[base], tmp_path / "copy")
    if "gptq" in base:  # the codes are known by their files, and the copies are others
        compiled(copy, models, BASES[base])
    return copy


@pytest.mark.parametrize(
    ("base", "key", "value", "remade"),
    [
        ("plain", "workspace.workers", 2, ""),
        ("plain", "frontend.shape.input_ids", [[16], [64]], ""),
        ("plain", "frontend.shape.input_ids", [[32], [32]], "passes kernels"),
        ("plain", "frontend.model_kwargs.b2s", True, ""),
        ("plain", "frontend.checkpoint", "sharded", "graph passes weights"),
        ("plain", "backend.dtype", "fp16", "passes kernels weights"),
        ("plain", "backend.merge_params", False, "weights"),
        ("plain", "backend.compile.products", "fp32", "passes kernels"),
        ("plain", "backend.compile.data_type", 1, ""),
        ("plain", "dataset.seed", 1, ""),
        ("plain", TYPE, "w8a16", "passes kernels weights"),
        ("plain", TYPE, "w16kv8", "passes kernels"),
        ("w8a16", TYPE, "w8a16_gptq", "passes codes weights"),
        ("w8a16", TYPE, "w8a16_kv8", "passes kernels"),
        ("w8a16", "frontend.quantize.head", "8bit", "passes kernels weights"),
        ("w8a16", "frontend.quantize.embedding", "8bit", "passes kernels weights"),
        ("w8a16", "frontend.quantize.group_size", 32, ""),
        ("w8a16", "frontend.quantize.sensitive", "8bit", ""),
        ("w8a8", "frontend.quantize.sensitive", "8bit", "passes kernels weights"),
        ("w4a16", "frontend.quantize.group_size", 32, "passes kernels weights"),
        ("w8a16_gptq", "frontend.quantize.calib_args.damping", 0.02, "codes weights"),
        ("w8a16_gptq", "dataset.seed", 1, "codes weights"),
        ("w8a16_gptq", "workspace.workers", 2, ""),
    ],
)
def test_a_key_remakes_what_it_touches(
    workspace: Path, models: Path, base: str, key: str, value: Any, remade: str
) -> None:
    found = compiled(workspace, models, BASES[base] | {key: value})
    assert {piece for piece, reason in found.items() if reason} == set(remade.split())


@pytest.mark.parametrize("base", ["w8a16"])
def test_a_target_remakes_the_kernels_alone(workspace: Path, models: Path, base: str) -> None:
    found = compiled(workspace, models, BASES[base], target="tvm_vacc -mcpu=x86-64-v3")
    assert {piece for piece, reason in found.items() if reason} == {"kernels"}
    assert found["kernels"].startswith('target: {"')


@pytest.mark.parametrize("base", ["w8a16"])
def test_why_the_module_is_another_one_is_told(workspace: Path, models: Path, base: str) -> None:
    """Of its hash nobody could read that."""
    found = compiled(workspace, models, BASES[base] | {"frontend.shape.input_ids": [[32], [32]]})
    assert "prefill: 16 -> 32" in found["passes"]
    assert "prefill: 16 -> 32" in found["kernels"]
    assert "module" not in found["kernels"]
