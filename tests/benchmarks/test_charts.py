from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.charts import draw_kernels, draw_model
from tests.benchmarks.made_up import kernel_results, model_results


@pytest.mark.parametrize(
    ("draw", "make", "words"),
    [
        (draw_kernels, kernel_results, ["rms_norm  1 x 4096", "memory"]),
        (draw_model, model_results, ["theirs", "ms a token", "tokens of the prompt"]),
    ],
)
def test_the_same_results_make_the_same_chart(
    draw: Callable[[Any, Path], None], make: Callable[[], Any], words: list[str], tmp_path: Path
) -> None:
    draw(make(), tmp_path / "a.svg")
    draw(make(), tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text()
    assert all(word in text for word in words)
    assert text == (tmp_path / "b.svg").read_text()
    draw(make(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
