"""The demo, compiled for processors of any kind, and the tokens it must give."""

from __future__ import annotations

from pathlib import Path

import tvm_vacc
from tvm_vacc.runtime.model import Model

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
PROMPT = "In the beginning God created"
COUNT = 12


def compile_demo(target: str, output: Path, **options: object) -> Path:
    """Compile the demo for `target`, in bf16 and without a passport."""
    return tvm_vacc.compile(
        CHECKPOINT,
        output=output,
        target=target,
        dtype="bf16",
        prefill=64,
        context=128,
        passport=False,
        **options,  # type: ignore[arg-type]
    )


def greedy_text(artefact: Path) -> str:
    """Return what an artefact for this machine answers."""
    model = tvm_vacc.load(artefact)
    assert isinstance(model, Model)
    ids = list(model.generate(model.tokenizer.encode(PROMPT), COUNT))
    return model.tokenizer.decode(ids)


def generate(artefact: Path) -> list[str]:
    """Return the words of ``python -m`` that let an artefact answer."""
    command = ["-m", "tvm_vacc.tvmc", "generate", str(artefact), "--prompt", PROMPT]
    return [*command, "--max-tokens", str(COUNT), "--threads", "1"]
