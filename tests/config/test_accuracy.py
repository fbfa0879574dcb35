from __future__ import annotations

from pathlib import Path

import pytest

from tvm_vacc.config import load_config
from tvm_vacc.config.accuracy import DEFAULT_TOKENS, Accuracy
from tvm_vacc.errors import ConfigError

CONFIG = """
name: glm
frontend:
  checkpoint: .
  type: huggingface
  shape: {input_ids: [[64], [128]]}
backend: {type: tvm_vacc, dtype: bf16}
workspace: {path: out}
"""


def accuracy(tmp_path: Path, section: str) -> Accuracy | None:
    path = tmp_path / "glm.yaml"
    path.write_text(CONFIG + section)
    return load_config(path).compile_options.accuracy


def test_it_is_measured_unless_told_otherwise(tmp_path: Path) -> None:
    assert accuracy(tmp_path, "") == Accuracy(tokens=DEFAULT_TOKENS, text=None, tolerance=0.05)
    assert accuracy(tmp_path, "accuracy: false") is None


def test_a_text_is_found_from_the_configs_directory(tmp_path: Path) -> None:
    found = accuracy(tmp_path, "accuracy: {tokens: 64, text: own.txt, tolerance: 0.1}")
    assert found == Accuracy(tokens=64, text=tmp_path / "own.txt", tolerance=0.1)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("accuracy: true", "accuracy: must be false or a mapping, got True; write accuracy: false"),
        ("accuracy:", "accuracy: must be false or a mapping, got None"),
        ("accuracy: [1]", "accuracy: must be false or a mapping"),
        ("accuracy: {token: 64}", "unknown key accuracy.token; did you mean accuracy.tokens?"),
        ("accuracy: {tokens: 4}", "accuracy.tokens: must be greater than or equal to 16"),
        ("accuracy: {tolerance: -1}", "accuracy.tolerance: must be greater than or equal to 0"),
        ("accuracy: {text: ''}", "accuracy.text: '' is no path"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        accuracy(tmp_path, section)
    assert message in str(refused.value)
