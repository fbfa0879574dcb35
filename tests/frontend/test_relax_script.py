"""TVMScript from outside: what TVM prints is read, and nothing else is evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest
import tvm
from tvm import relax

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.relax_script import read_script

WHERE = Path("model.py")
FUNCTION = """
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor(({shape}), "float32")):
        return {value}
"""


def module(*, legalised: bool) -> tvm.ir.IRModule:
    x = relax.Var("x", relax.TensorType((tvm.tirx.Var("n", "int64"), 17), "float32"))
    w = relax.Var("w", relax.TensorType((17, 5), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, w))
            result = builder.emit_output(builder.emit(relax.op.nn.softmax(product)))
        builder.emit_func_output(result)
    made = builder.get()
    return relax.transform.LegalizeOps()(made) if legalised else made


@pytest.mark.parametrize("legalised", [False, True])
def test_what_tvm_prints_is_read(legalised: bool) -> None:
    given = module(legalised=legalised)
    got = read_script(given.script(), WHERE)
    tvm.ir.assert_structural_equal(got, given)


def function(shape: str = "3,", value: str = "x") -> str:
    return FUNCTION.format(shape=shape, value=value)


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "from os import system",
        "x = __import__('os')",
        function(shape="\"__import__('os')\","),
        function(shape='"open(1)",'),
        function(shape="open('a'),"),
        function(value="x.__class__"),
        function(value="R.tvm"),
        function(value="T.sys.exit(1)"),
        function(value="(lambda: x)()"),
        function(value="[y for y in x]"),
        function(value="f'{x}'"),
        "R = 1",
        "y = R",
        "y = I.tvm",
        "@I.pyfunc\ndef f(): pass",
        "class A:\n  try: pass\n  except: pass",
        "def f(:",
        "x = 1",
    ],
)
def test_what_could_run_code_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OnnxError, match=r"model\.py: .*save_json|model\.py: .*I\.ir_module"):
        read_script(text, WHERE)
