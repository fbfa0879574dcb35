from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from tvm_vacc.artifact.manifest import (
    FileEntry,
    Manifest,
    PassReport,
    TensorSpec,
    installed_versions,
    read_manifest,
)
from tvm_vacc.errors import ArtifactError

FULL = Manifest(
    name="glm",
    kind="causal_lm",
    target="tvm_vacc",
    dtype="bf16",
    functions=("forward", "sample"),
    model_spec={"layers": 2, "eps": 1.5625e-07, "end": [1, 2]},
    prefill=256,
    context=2048,
    page_size=16,
    caches=(
        TensorSpec("cache.0", ("pages", 2, 32, 16), "bfloat16"),
        TensorSpec("cache.1", ("pages", 2, 16, 32), "bfloat16"),
    ),
    inputs=(TensorSpec("x", ("batch", 3), "float32"),),
    weights=("weights.safetensors",),
    parameters=("a", "b"),
    files={"weights.safetensors": FileEntry(sha256="0" * 64, bytes=3)},
    passes=(PassReport("fuse_rope", 4, 4, 0.1), PassReport("canonicalize", 0, None, 0.25)),
    tools={"python": "3.11"},
)


def write(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, FULL.to_json())) == FULL
    plain = Manifest(name="x", kind="graph", target="llvm", dtype="fp32")
    assert read_manifest(write(tmp_path, plain.to_json())) == plain


def test_version_comes_first_for_readers_of_every_version() -> None:
    document = json.loads(FULL.to_json())
    assert list(document)[:2] == ["format", "format_version"]
    assert document["format_version"] == 1


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5, [1]])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    document = json.loads(FULL.to_json()) | {"format_version": version}
    with pytest.raises(
        ArtifactError, match=r"manifest\.json: format_version is .* reads 1; compile"
    ):
        read_manifest(write(tmp_path, document))


@pytest.mark.parametrize("document", [[], {}, {"manifest_version": 3, "name": "an extension"}])
def test_a_foreign_manifest_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(ArtifactError, match="is no manifest of tvm_vacc; give"):
        read_manifest(write(tmp_path, document))


def test_changed_characters_are_refused_or_harmless(tmp_path: Path) -> None:
    text = FULL.to_json()
    for position in range(0, len(text), 3):
        char = text[position]
        changed = text[:position] + chr(ord(char) ^ 1) + text[position + 1 :]
        with contextlib.suppress(ArtifactError):
            # What passes all the same is a space that became another white space.
            assert read_manifest(write(tmp_path, changed)) == FULL, (position, char)


def test_an_unknown_key_and_a_huge_number_are_refused(tmp_path: Path) -> None:
    document = json.loads(FULL.to_json())
    with pytest.raises(ArtifactError, match="was changed"):
        read_manifest(write(tmp_path, document | {"extra": 1}))
    with pytest.raises(ArtifactError, match="was changed"):
        read_manifest(write(tmp_path, FULL.to_json().replace("2048", "1e999")))


def test_a_number_that_json_has_not_is_refused_before_it_is_written() -> None:
    manifest = Manifest("x", "graph", "llvm", "fp32", model_spec={"kl": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        manifest.to_json()


def test_installed_versions_leaves_out_what_is_not_there() -> None:
    assert list(installed_versions("numpy", "no-such-distribution")) == ["numpy"]
