from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_vacc import target as vacc_target

CHECK_TAG = "print(tvm.target.Target('tvm_vacc').keys)"


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "imports",
    ["import tvm", "import tvm_vacc, tvm", "import tvm_vacc.ops, tvm", "import tvm, tvm_vacc.ops"],
)
def test_tag_is_there_after_either_import_order(imports: str) -> None:
    done = run_python(f"{imports}; {CHECK_TAG}")
    assert done.returncode == 0, done.stderr
    assert "tvm_vacc" in done.stdout
    assert "autoload" not in done.stderr


def test_autoload_can_be_turned_off_and_done_by_hand() -> None:
    off = run_python(f"import tvm; {CHECK_TAG}", TVM_DEVICE_BACKEND_AUTOLOAD="0")
    assert off.returncode != 0
    by_hand = run_python(
        f"import tvm, tvm_vacc.target as t; t.autoload(); t.autoload(); {CHECK_TAG}",
        TVM_DEVICE_BACKEND_AUTOLOAD="0",
    )
    assert by_hand.returncode == 0, by_hand.stderr
    assert "tvm_vacc" in by_hand.stdout


@I.ir_module
class Mixed:
    @R.function
    def main(x: R.Tensor((3, 17), "float32"), w: R.Tensor((17, 5), "float32")) -> R.Tensor(
        (3, 5), "float32"
    ):
        with R.dataflow():
            y = R.matmul(x, w)
            z = R.nn.softmax(R.nn.silu(y), axis=-1)
            R.output(z)
        return z


def mixed_reference(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    y = x.astype(np.float64) @ w
    y = y / (1 + np.exp(-y))
    e = np.exp(y - y.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("build", [tvm.compile, relax.build])
@pytest.mark.parametrize("as_text", [True, False])
def test_other_modules_run_our_pipeline_and_are_right(
    build: object, as_text: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    original = vacc_target.vacc_pipeline
    monkeypatch.setattr(vacc_target, "vacc_pipeline", lambda: (runs.append(1), original())[1])
    target = "tvm_vacc" if as_text else tvm.target.Target({"tag": "tvm_vacc", "opt-level": 2})
    executable = build(Mixed, target=target)  # type: ignore[operator]
    assert runs, "the stock pipeline ran"
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 17), dtype=np.float32)
    w = rng.standard_normal((17, 5), dtype=np.float32)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    got = machine["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(w)).numpy()
    np.testing.assert_allclose(got, mixed_reference(x, w), rtol=1e-5, atol=1e-6)


def test_other_targets_keep_the_stock_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacc_target, "vacc_pipeline", lambda: pytest.fail("ours ran"))
    tvm.compile(Mixed, target="llvm")


def test_the_tag_survives_printing_and_options() -> None:
    target = tvm.target.Target({"tag": "tvm_vacc", "mcpu": "x86-64-v3"})
    assert vacc_target.is_vacc(tvm.target.Target(str(target)))
    assert not vacc_target.is_vacc(tvm.target.Target("llvm"))
    assert not vacc_target.is_vacc(None)
