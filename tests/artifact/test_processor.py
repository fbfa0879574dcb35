from __future__ import annotations

import platform
from pathlib import Path

import pytest
import tvm
from tvm.target.codegen import llvm_get_cpu_features

from tvm_vacc.artifact import processor
from tvm_vacc.artifact.processor import ARM, LEVELS, X86, Processor, features_here
from tvm_vacc.target import processor_of
from tvm_vacc.target_string import make_target

ON_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="asks an x86 processor")


@ON_X86
def test_the_c_library_and_linux_say_what_llvm_says() -> None:
    found = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    by_llvm = {str(name) for name, there in found.items() if there}
    assert features_here() == by_llvm & set(X86)
    assert processor.x86_features_in(Path("/proc/cpuinfo").read_text()) == features_here()


@ON_X86
def test_an_old_c_library_leaves_it_to_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = features_here()
    features_here.cache_clear()
    monkeypatch.setattr(processor.ctypes, "CDLL", lambda _name: object())
    assert features_here() == expected
    features_here.cache_clear()


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_demands_what_llvm_says(level: str) -> None:
    made = processor_of(make_target(f"tvm_vacc -mtriple=x86_64-linux-gnu -mcpu={level}"))
    assert made == Processor("x86_64-linux-gnu", tuple(sorted(LEVELS[level])))


def test_features_of_arm_are_known_to_llvm() -> None:
    attributes = ",".join(f"+{name}" for name in ARM)
    target = make_target(f"tvm_vacc -mtriple=aarch64-linux-gnu -mattr={attributes}")
    assert set(ARM) <= set(map(str, llvm_get_cpu_features(target)))
    made = processor_of(make_target("tvm_vacc -mtriple=aarch64-linux-gnu -mcpu=neoverse-n1"))
    assert made is not None
    assert {"dotprod", "fullfp16", "lse"} <= set(made.features)


def test_c_sources_demand_nothing() -> None:
    assert processor_of(make_target("tvm_vacc/c")) is None


def on(monkeypatch: pytest.MonkeyPatch, machine: str, *features: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "features_here", lambda: frozenset(features))


def test_what_is_lacking_is_named_with_the_best_level_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs = Processor("x86_64-linux-gnu", ("avx", "avx512f", "sse3"))
    on(monkeypatch, "x86_64", *LEVELS["x86-64-v4"])
    assert needs.why_not_here() == ""
    on(monkeypatch, "x86_64", *LEVELS["x86-64-v3"])
    assert needs.why_not_here() == "this machine's processor lacks avx512f"
    assert needs.cure().endswith(
        '"tvm_vacc -mcpu=native", or anywhere for "tvm_vacc -mcpu=x86-64-v3"'
    )
    on(monkeypatch, "x86_64")
    assert needs.cure().endswith('for "tvm_vacc -mcpu=x86-64"')


@pytest.mark.parametrize(
    ("triple", "machine", "here"),
    [
        ("aarch64-linux-gnu", "x86_64", "x86_64-linux"),
        ("arm64-apple-darwin", "aarch64", "aarch64-linux"),
        ("x86_64-linux-gnu", "aarch64", "aarch64-linux"),
    ],
)
def test_another_architecture_or_system_is_named(
    triple: str, machine: str, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, machine)
    obstacle = Processor(triple, ()).why_not_here()
    assert obstacle == f"it is compiled for {triple}, this machine is {here}"


def test_the_cure_on_arm_names_the_triple(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "aarch64", "neon")
    foreign = Processor("x86_64-linux-gnu", ())
    assert foreign.cure().endswith('or anywhere for "tvm_vacc -mtriple=aarch64-linux-gnu"')
    assert Processor("aarch64-linux-gnu", ("neon",)).why_not_here() == ""
