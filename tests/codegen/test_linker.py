from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tvm
from tvm.target.codegen import llvm_get_system_triple

from tvm_vacc.codegen.linker import COMPILERS, NONE, Linker, find_linker
from tvm_vacc.compiler import linker_for
from tvm_vacc.errors import ConfigError, TargetError, VaccError
from tvm_vacc.target_string import make_target

HERE = str(llvm_get_system_triple())


def only(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    """Let the machine have `programs` and no other."""
    there = {name: f"/usr/bin/{name}" for name in programs}
    monkeypatch.setattr(shutil, "which", lambda name: there.get(name))


def test_this_machine_takes_any_driver_and_may_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, *COMPILERS)
    assert find_linker(HERE) == Linker("/usr/bin/g++")
    only(monkeypatch, "cc", "clang")
    assert find_linker(HERE, None, ["-s"]) == Linker("/usr/bin/clang", ("-s",))
    only(monkeypatch)
    assert find_linker(HERE) is None
    with pytest.raises(ConfigError, match=r"--cross-compiler-options: nothing is linked"):
        find_linker(HERE, None, ["-s"])


@pytest.mark.parametrize("triple", ["s390x-linux-gnu", "s390x-unknown-linux-gnu"])
def test_another_machine_takes_the_compiler_of_its_triple(
    triple: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "g++", "s390x-linux-gnu-g++")
    assert find_linker(triple) == Linker("/usr/bin/s390x-linux-gnu-g++")
    only(monkeypatch, "g++")
    with pytest.raises(TargetError, match=r"no s390x-linux-gnu-g\+\+ is there") as caught:
        find_linker(triple)
    assert "apt-get install g++-s390x-linux-gnu," in str(caught.value)
    assert find_linker(triple, NONE) is None
    assert find_linker(triple, "g++", ["-v"]) == Linker("/usr/bin/g++", ("-v",))


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--cross-compiler: no program 'armlink-99'"):
        find_linker(HERE, "armlink-99")


def test_c_sources_take_no_linker() -> None:
    target = make_target("tvm_vacc/c")
    assert linker_for(target, None, ()) is None
    for given in (("g++", ()), (None, ("-s",))):
        with pytest.raises(ConfigError, match="--cross-compiler is given for tvm_vacc/c"):
            linker_for(target, *given)


def test_a_linker_that_fails_is_one_line(tmp_path: Path) -> None:
    program = shutil.which("false")
    assert program is not None
    module = tvm.compile(tvm.IRModule({}), target="llvm")
    with pytest.raises(VaccError, match="does not link the kernels") as caught:
        Linker(program).link(module, tmp_path / "model.so")
    assert "\n" not in str(caught.value)
