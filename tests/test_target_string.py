from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
import tvm
from tvm.target import codegen

from tvm_vacc.errors import TargetError, VaccWarning
from tvm_vacc.target_string import OPTIONS, make_target, parse_target


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("tvm_vacc", {}),
        ("  tvm_vacc ", {}),
        ("tvm_vacc, llvm", {}),
        ("tvm_vacc,llvm", {}),
        ("tvm_vacc -mcpu=znver4", {"mcpu": "znver4"}),
        ("tvm_vacc --mcpu=znver4", {"mcpu": "znver4"}),
        ('tvm_vacc -mcpu="znver4"', {"mcpu": "znver4"}),
        ("tvm_vacc -mcpu=znver4, llvm -mcpu=znver4", {"mcpu": "znver4"}),
        ("tvm_vacc, llvm -mcpu=znver4", {"mcpu": "znver4"}),
        (
            "tvm_vacc -mattr=+avx512vnni,+avx512bf16,-amx-tile, llvm -num-cores=8",
            {"mattr": ["+avx512vnni", "+avx512bf16", "-amx-tile"], "num-cores": 8},
        ),
        (
            "tvm_vacc -mtriple=aarch64-linux-gnu -mcpu=neoverse-n1 -opt-level=2",
            {"mtriple": "aarch64-linux-gnu", "mcpu": "neoverse-n1", "opt-level": 2},
        ),
        ('{"tag": "tvm_vacc", "mcpu": "znver4"}', {"mcpu": "znver4"}),
        ('{"kind": "tvm_vacc", "mattr": ["+avx2"]}', {"mattr": ["+avx2"]}),
    ],
)
def test_accepted(text: str, options: dict[str, Any]) -> None:
    assert parse_target(text) == {"tag": "tvm_vacc", **options}
    target = make_target(text)
    assert target.kind.name == "llvm"
    assert "tvm_vacc" in target.keys
    for name, value in options.items():
        found = target.attrs[name]
        assert (list(found) if isinstance(value, list) else found) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a name is missing"),
        ("llvm", "tvm_vacc must come first"),
        ("llvm, tvm_vacc", "tvm_vacc must come first"),
        ("tvm_vacc, tvm_vacc", "tvm_vacc must come first"),
        ("tvm_vacc, llvm, llvm", "tvm_vacc must come first"),
        ("tvm_vacc,", "a name is missing"),
        ("cuda", "unknown target 'cuda'"),
        ("tvm_vacc/cuda", "unknown target 'tvm_vacc/cuda'"),
        ("tvm_vacc, cuda", "unknown target 'cuda'"),
        ("tvm_vacc mcpu=znver4", "'mcpu=znver4' is no option"),
        ("tvm_vacc -mcpu", "'-mcpu' is no option"),
        ("tvm_vacc -mcpu=", "-mcpu has no value"),
        ("tvm_vacc -mcpu=a -mcpu=b", "-mcpu is given twice"),
        ("tvm_vacc -mcpu=znver4, llvm -mcpu=znver3", "-mcpu differs between tvm_vacc and llvm"),
        ("tvm_vacc -mattr=avx2", "-mattr holds 'avx2'; give features with a sign"),
        ("tvm_vacc -mattr=+avx2,fma", "unknown target 'fma'"),
        ("tvm_vacc -mattr=", "-mattr holds ''"),
        ("tvm_vacc -mtriple=arm", "-mtriple is 'arm'"),
        ("tvm_vacc -num-cores=many", "-num-cores is 'many'"),
        ("tvm_vacc -num-cores=-1", "-num-cores is '-1'"),
        ('tvm_vacc -mcpu="znver4', "No closing quotation"),
        ("tvm_vacc -x=1", f"unknown option -x; valid: -{', -'.join(OPTIONS)}"),
        ("tvm_vacc -cpu=znver4", "did you mean -mcpu?"),
        ("{", "not valid JSON"),
        ("{}", 'the key "tag" must be "tvm_vacc"'),
        ('{"kind": "llvm"}', 'the key "tag" must be "tvm_vacc"'),
        ('{"tag": "tvm_vacc", "mcup": "a"}', "did you mean -mcpu?"),
        ('{"tag": "tvm_vacc", "mcpu": 4}', "mcpu is 4"),
        ('{"tag": "tvm_vacc", "num-cores": true}', "num-cores is True"),
        ('{"tag": "tvm_vacc", "mattr": [1]}', "-mattr holds 1"),
        ('{"tag": "tvm_vacc", "mcpu": "a", "mcpu": "b"}', "not valid JSON"),
    ],
)
def test_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tvm_vacc -mcpu=znver99", "LLVM knows no processor 'znver99' for x86_64"),
        ("tvm_vacc -mcpu=znver4 -mtriple=aarch64-linux-gnu", "'znver4' for aarch64-linux-gnu"),
        ("tvm_vacc -mcpu=native -mtriple=aarch64-linux-gnu", "-mcpu=native is this machine"),
    ],
)
def test_unknown_processors_are_refused(text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        make_target(text)
    assert message in str(caught.value)


def test_native_is_this_machines_processor() -> None:
    from tvm.target.codegen import llvm_get_system_cpu

    assert make_target("tvm_vacc -mcpu=native").attrs["mcpu"] == llvm_get_system_cpu()


def test_config_is_plain_json() -> None:
    config = parse_target("tvm_vacc -mattr=+avx2 -num-cores=2")
    assert json.loads(json.dumps(config)) == config


def test_native_takes_features_from_the_machine_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine that masks AVX-512 and bf16 of a processor which has them."""
    masked = {"avx512f", "avx512bf16"}
    monkeypatch.setattr(codegen, "llvm_get_system_cpu", lambda: "znver4")
    named = codegen.llvm_get_cpu_features(tvm.target.Target({"kind": "llvm", "mcpu": "znver4"}))
    host = {str(feature): str(feature) not in masked for feature in named} | {"amx-tile": False}
    real = tvm.get_global_func
    features = "tvm.codegen.llvm.GetHostCPUFeatures"
    monkeypatch.setattr(
        tvm, "get_global_func", lambda name: (lambda: host) if name == features else real(name)
    )
    target = make_target("tvm_vacc -mcpu=native")
    assert list(target.attrs["mattr"]) == ["-avx512bf16", "-avx512f"]
    assert not codegen.target_has_features("avx512f", target)
    assert codegen.target_has_features("avx2", target)
    # What the user writes comes last, and wins.
    target = make_target("tvm_vacc -mcpu=native -mattr=-avx2")
    assert list(target.attrs["mattr"]) == ["-avx512bf16", "-avx512f", "-avx2"]


def test_native_code_runs_here() -> None:
    target = make_target("tvm_vacc -mcpu=native")
    found = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    known = set(map(str, codegen.llvm_get_cpu_features(target)))
    assert {str(feature) for feature, there in found.items() if not there}.isdisjoint(known)


@pytest.mark.parametrize("text", ["tvm_vacc", "tvm_vacc, llvm", "tvm_vacc -num-cores=4"])
def test_a_generic_target_warns_with_cost_and_cure(text: str) -> None:
    with pytest.warns(VaccWarning, match="several times slower.*-mcpu=native") as caught:
        make_target(text)
    assert len(caught) == 1


def test_a_generic_target_of_another_machine_is_cured_otherwise() -> None:
    with pytest.warns(VaccWarning, match="slower than it could; name a processor by -mcpu$"):
        make_target("tvm_vacc -mtriple=aarch64-linux-gnu")


def test_linux_on_riscv64_has_floats_in_registers() -> None:
    for triple in ("riscv64-linux-gnu", "riscv64-unknown-linux-gnu"):
        target = make_target(f"tvm_vacc -mtriple={triple} -mattr=+v,-c")
        assert list(target.attrs["mattr"]) == ["+m", "+a", "+f", "+d", "+c", "+v", "-c"]
        assert target.attrs["mabi"] == "lp64d"
    bare = make_target("tvm_vacc -mtriple=riscv64-unknown-elf -mabi=lp64")
    assert "mattr" not in bare.attrs
    assert bare.attrs["mabi"] == "lp64"


@pytest.mark.parametrize(
    "text", ["tvm_vacc -mcpu=native", "tvm_vacc -mcpu=znver4", "tvm_vacc -mattr=+avx2"]
)
def test_a_target_that_says_what_for_does_not_warn(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", VaccWarning)
        make_target(text)


def test_targets_are_there_where_tvm_was_told_to_load_no_plugins() -> None:
    code = "from tvm_vacc.target_string import make_target; print(make_target('tvm_vacc'))"
    environment = {**os.environ, "TVM_DEVICE_BACKEND_AUTOLOAD": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tvm_vacc" in done.stdout
