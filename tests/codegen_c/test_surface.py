"""How C sources are asked for: the target string, and `tvmc compile -f mlf`."""

from __future__ import annotations

import pytest

from schedules.isa import PORTABLE, isa_of
from tvm_vacc.errors import ConfigError, TargetError
from tvm_vacc.target import emits_c
from tvm_vacc.target_string import make_target
from tvm_vacc.tvmc.compiling.target import target_of


def test_the_target_asks_for_c_and_portable_kernels() -> None:
    target = make_target("tvm_vacc/c")
    assert emits_c(target)
    assert isa_of(target) == PORTABLE
    assert not emits_c(make_target("tvm_vacc"))


def test_options_belong_to_the_other_compiler() -> None:
    with pytest.raises(TargetError, match="takes no options"):
        make_target("tvm_vacc/c -mcpu=znver4")


def test_mlf_is_the_same_target() -> None:
    assert target_of("tvm_vacc", "mlf") == "tvm_vacc/c"
    assert target_of("tvm_vacc -mcpu=native", "dir") == "tvm_vacc -mcpu=native"
    with pytest.raises(ConfigError, match="beside --output-format mlf"):
        target_of("tvm_vacc -mcpu=native", "mlf")
