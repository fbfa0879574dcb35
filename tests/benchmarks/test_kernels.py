from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from benchmarks import kernels
from benchmarks.glm4_9b import CONFIG, SPEC
from tests.schedules.kernel_harness import HOST_TARGETS
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.config_reader import ConfigReader
from tvm_vacc.frontend.glm_layout import read_glm_config
from tvm_vacc.machine import memory
from tvm_vacc.machine.setup import Setup

SMALL = replace(
    SPEC,
    hidden=64,
    heads=4,
    kv_heads=2,
    head_dim=32,
    rotary_dim=16,
    intermediate=96,
    vocab=1000,
    eos_token_ids=(1,),
    pad_token_id=None,
)
"""Dimensions at which a case is made in no time."""

OF_THE_GLUE = ("embedding", "kv_append", "rms_norm", "rope", "sampling", "swiglu")


@pytest.mark.parametrize("name", OF_THE_GLUE)
def test_every_case_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"benchmarks.kernels.{name}")
    monkeypatch.setattr(module, "SPEC", SMALL)
    monkeypatch.setattr(memory, "cold_bytes", lambda: 1 << 20)
    cases = list(kernels.kernel_cases(Setup(HOST_TARGETS["native"], 1), [name]))
    assert len({case.shape for case in cases}) == len(cases) > 1
    for case in cases:
        assert case.name == name
        assert case.sample() > 0
        assert case.bytes or case.operations


def test_unknown_kernels_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"no kernel 'rms'; choose of .*rms_norm"):
        list(kernels.kernel_cases(Setup(HOST_TARGETS["native"], 1), ["rms"]))


def test_the_two_descriptions_of_the_model_agree(tmp_path: pytest.TempPathFactory) -> None:
    import json

    path = tmp_path / "config.json"  # type: ignore[operator]
    path.write_text(json.dumps(CONFIG))
    fields = read_glm_config(ConfigReader.from_file(path))
    assert {name: getattr(SPEC, name) for name in fields} == fields
    assert list(SPEC.eos_token_ids) == CONFIG["eos_token_id"]
