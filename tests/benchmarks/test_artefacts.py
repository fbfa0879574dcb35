from __future__ import annotations

from pathlib import Path

import pytest

import tvm_vacc
from benchmarks.artefacts import compile_type
from tests.frontend.glm_factory import make_glm_checkpoint
from tvm_vacc.config import Config, load_config
from tvm_vacc.errors import ConfigError


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What is compiled, instead of compiling it."""
    seen: list[Config] = []

    def compile_nothing(path: Path, target: str) -> Path:
        assert target == "tvm_vacc"
        seen.append(load_config(path))
        return path

    monkeypatch.setattr(tvm_vacc, "compile", compile_nothing)
    return seen


def test_every_type_has_a_config_of_its_own(tmp_path: Path, configs: list[Config]) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm")
    kinds = ("bf16", "w8a8", "w4a16", "w4a16:group_size=32,head=8bit")
    for kind in kinds:
        compile_type(checkpoint, kind, "fp16", "tvm_vacc", tmp_path / "work")
    assert len({config.name for config in configs}) == len(kinds)
    assert [config.backend.dtype for config in configs] == ["bf16", "fp16", "fp16", "fp16"]
    plain, *quantised = [config.frontend.quantize for config in configs]
    assert plain is None
    assert [q and q.type for q in quantised] == ["w8a8", "w4a16", "w4a16"]
    assert [q and (q.group_size, q.head) for q in quantised[1:]] == [(64, "16bit"), (32, "8bit")]
    assert {config.workspace.path for config in configs} == {tmp_path / "work"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("w8a16:head", "'head' has no value"),
        ("w7a16", "frontend.quantize.type"),
        ("w8a16:heads=2", "heads"),
    ],
)
def test_a_type_that_is_none_is_one_line(
    kind: str, message: str, tmp_path: Path, configs: list[Config]
) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm")
    with pytest.raises(ConfigError, match=message):
        compile_type(checkpoint, kind, "fp16", "tvm_vacc", tmp_path / "work")
    assert configs == []
