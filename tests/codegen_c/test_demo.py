"""The demo model as C sources alone: the tokens of the artefact of machine code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tvm_vacc
from tests.codegen_c.c_build import build
from tests.codegen_c.c_model import CModel
from tvm_vacc.errors import ArtifactError
from tvm_vacc.runtime.kv_cache import Sequence
from tvm_vacc.runtime.model import Model

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
PROMPT = list(range(60, 99))  # two pieces, and an odd number of tokens

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_the_demo_runs_on_c_alone_with_the_same_tokens(dtype: str, tmp_path: Path) -> None:
    paths = {
        target: tvm_vacc.compile(
            CHECKPOINT,
            output=tmp_path / name,
            target=target,
            dtype=dtype,
            context=64,
            prefill=32,
            passport=False,
        )
        for name, target in (("machine", "tvm_vacc"), ("c", "tvm_vacc/c"))
    }
    sources = paths["tvm_vacc/c"]
    with pytest.raises(ArtifactError, match="C sources"):
        tvm_vacc.load(sources)
    library = build("gcc", sorted(sources.glob("*.c")), tmp_path / "model.so", "-O1")
    model, oracle = CModel(sources, library), tvm_vacc.load(paths["tvm_vacc"])
    assert isinstance(oracle, Model)
    sequence = Sequence()
    pieces = [PROMPT[:32], PROMPT[32:]]
    logits = np.concatenate([model.step(sequence, part, all_logits=True) for part in pieces])
    np.testing.assert_allclose(logits, oracle.logits(PROMPT), rtol=0, atol=1e-4)
    assert model.generate(PROMPT, 20) == list(oracle.generate(PROMPT, 20))
