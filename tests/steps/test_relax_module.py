"""Relax modules from files: read without running anything of them, their constants on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

import tvm_vacc
from tvm_vacc.errors import OnnxError
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.steps.relax_module import import_relax, read_relax

WEIGHT = np.random.default_rng(1).standard_normal((17, 5), dtype=np.float32)


def module(*, packed: str = "") -> tvm.ir.IRModule:
    x = relax.Var("x", relax.TensorType((tvm.tirx.Var("n", "int64"), 17), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.matmul(x, relax.const(WEIGHT)))
            if packed:
                y = builder.emit(relax.call_dps_packed(packed, [y], y.ty))
            y = builder.emit_output(builder.emit(relax.op.nn.relu(y)))
        builder.emit_func_output(y)
    return builder.get()


def saved(path: Path, made: tvm.ir.IRModule) -> Path:
    path.write_text(tvm.ir.save_json(made))
    return path


def test_a_module_compiles_and_its_constants_are_weights(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.json", module())
    graph = tvm_vacc.load(tvm_vacc.compile(path, output=tmp_path / "out", dtype="bf16"))
    assert isinstance(graph, Graph)
    x = np.random.default_rng(0).standard_normal((3, 17), dtype=np.float32)
    got = graph.run({"x": x})["output0"]
    np.testing.assert_allclose(got, np.maximum(x @ WEIGHT, 0), rtol=0.02, atol=0.05)
    assert [stored.stored_as for stored in graph.manifest.storage] == ["bf16"]


def test_weights_are_read_from_the_file_beside(tmp_path: Path) -> None:
    imported = import_relax(saved(tmp_path / "m.json", module()), tmp_path / "here")
    [(_, ref)] = imported.weights.items()
    np.testing.assert_array_equal(ref.read(), WEIGHT)
    assert ref.file == tmp_path / "here" / "weights.bin"


@pytest.mark.parametrize("text", ["", "{}", "[1]", "no JSON", tvm.ir.save_json(relax.const(1))])
def test_what_is_no_module_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(OnnxError, match=r"model\.json: ") as caught:
        read_relax(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outside", [False, True])
def test_kernels_may_stand_in_it_but_call_nothing_outside(tmp_path: Path, outside: bool) -> None:
    with IRBuilder() as builder, T.prim_func():
        T.func_name("kernel")
        x = T.match_buffer(T.arg("x", T.handle()), (3,), "float32")
        out = T.match_buffer(T.arg("out", T.handle()), (3,), "float32")
        with T.serial(0, 3) as i:
            value = T.call_extern("float32", "system", x[i]) if outside else x[i] * 2.0
            T.buffer_store(out, value, [i])
    made = module()
    made["kernel"] = builder.get().with_attr("global_symbol", "kernel")
    path = saved(tmp_path / "model.json", made)
    if not outside:
        assert "kernel" in {gvar.name_hint for gvar in read_relax(path).get_global_vars()}
        return
    with pytest.raises(OnnxError, match="calls 'system', which is code outside"):
        read_relax(path)


def test_code_outside_of_the_module_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.json", module(packed="my.function"))
    with pytest.raises(OnnxError, match=r"calls 'my\.function', which is code outside"):
        read_relax(path)
