from __future__ import annotations

from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from relay_passes.choose_tiles import ChooseTiles, TileChoice, tiled_calls
from schedules.attention_tiles import Attention
from schedules.kv_cache import key_cache_shape, value_cache_shape
from schedules.tiles import Linear
from tests.tuning.models import linears
from tvm_vacc import compiler
from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
from tvm_vacc.codegen.options import BuildOptions
from tvm_vacc.ops import gqa_attention, packed_linear, packed_quantized_linear
from tvm_vacc.runtime.load import load
from tvm_vacc.target_string import make_target
from tvm_vacc.tile_records import TileRecord
from tvm_vacc.tuning_records import TuningRecords

TARGET = "tvm_vacc -mcpu=x86-64-v2"
FLOAT, CODES = Linear("bfloat16", 64, 65), Linear("w4a16", 64, 65, group_size=32)


def module() -> tvm.IRModule:
    """Two linears over bf16, alike but for a bias, and one over codes of 4 bits."""
    shapes = {
        "x": ((3, 64), "float32"),
        "weight": ((2, 32, 64, 2), "bfloat16"),
        "bias": ((65,), "float32"),
        "codes": ((3, 8, 128), "uint8"),
        "scales": ((3, 2, 32), "float16"),
    }
    x, weight, bias, codes, scales = params = [
        relax.Var(name, relax.TensorType(*described)) for name, described in shapes.items()
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            attrs = {"out_features": 65, "products": "bf16"}
            one = builder.emit(packed_linear(x, weight, **attrs))
            other = builder.emit(packed_linear(x, weight, bias, **attrs))
            grouped = {"scheme": "w4a16", "group_size": 32, "out_features": 65}
            last = builder.emit(packed_quantized_linear(x, codes, scales, **grouped))
            result = builder.emit_output(relax.Tuple([one, other, last]))
        builder.emit_func_output(result)
    return builder.get()


def test_calls_alike_get_the_choice_and_others_do_not() -> None:
    before = module()
    assert [linear for linear, _ in tiled_calls(before)] == [FLOAT, FLOAT, CODES]
    found = ChooseTiles((TileChoice(FLOAT, (("panel_tiles", 4), ("rows", 2))),)).apply(before)
    assert (found.matches, found.note) == (
        2,
        "linear bfloat16 64->65: panel_tiles 4, rows 2",
    )
    assert relax.analysis.check_well_formed(found.module)
    calls = list(tiled_calls(found.module))
    assert [linear for linear, _ in calls] == [FLOAT, FLOAT, CODES]
    chosen = [dict(call.attrs.get("tiles", {})) for _, call in calls]
    assert chosen == [{"panel_tiles": 4, "rows": 2}] * 2 + [{}]
    assert [call.args[-1].name for _, call in calls] == ["weight", "bias", "scales"]


def test_other_linears_are_left_alone() -> None:
    before = module()
    found = ChooseTiles((TileChoice(Linear("bfloat16", 64, 64), (("rows", 2),)),)).apply(before)
    assert found.matches == 0
    assert found.note == "no kernel of this model gains by these records"
    tvm.ir.assert_structural_equal(found.module, before)


def test_attention_gets_its_choice_and_computes_the_same() -> None:
    rng = np.random.default_rng(0)
    caches = [
        rng.standard_normal(shape(6, 2, 16, "float32")).astype(np.float32)
        for shape in (key_cache_shape, value_cache_shape)
    ]
    arrays = [
        rng.standard_normal((9, 4, 16)).astype(np.float32),
        *caches,
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.array([0, 1, 9], np.int32),
        np.array([40, 20], np.int32),
    ]
    params = [
        relax.Var(f"x{i}", relax.TensorType(array.shape, str(array.dtype)))
        for i, array in enumerate(arrays)
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(gqa_attention(*params, scale=0.25, products="bf16"))
        builder.emit_func_output(result)
    before = builder.get()
    choice = TileChoice(Attention("float32", 4, 2, 16), (("rows", 2), ("tile_rows", 16)))
    found = ChooseTiles((choice,)).apply(before)
    assert (found.matches, found.note) == (1, "attention float32 4/2 x 16: rows 2, tile_rows 16")
    [(of, call)] = tiled_calls(found.module)
    assert (of, dict(call.attrs["tiles"])) == (choice.of, {"rows": 2, "tile_rows": 16})
    outputs = []
    for each in (before, found.module):
        vm = relax.VirtualMachine(tvm.compile(each, target=make_target(TARGET)), tvm.cpu())
        outputs.append(vm["main"](*map(tvm.runtime.tensor, arrays)).numpy())
    np.testing.assert_array_equal(*outputs)
    want = gqa_attention.reference(*arrays, scale=0.25)
    np.testing.assert_allclose(outputs[0], want, rtol=0, atol=3e-6)


def test_a_compile_takes_the_choices_and_keeps_the_weights(tmp_path: Path) -> None:
    model = linears(tmp_path / "net.onnx")
    records = TuningRecords.open_or_start(tmp_path / "records", make_target(TARGET))
    chosen = TileRecord(Linear("float32", 320, 320), {"rows": 4, "chunk_bytes": 1 << 14})
    told: list[str] = []
    outputs = []
    for tuning in (None, records, records.adding(chosen), records.adding(chosen)):
        path = compiler.compile(
            model,
            output=tmp_path / "out",
            target=TARGET,
            build=BuildOptions(tuning=tuning),
            explain=lambda explanation: told.append(str(explanation)),
        )
        x = np.random.default_rng(0).standard_normal((70, 320), np.float32)
        outputs.append(load(path).run({"x": x})["y"])
    pieces = dict.fromkeys(line.partition(":")[0] for line in told)
    of_passes, of_kernels = (
        [line for line in told if line.startswith(piece)] for piece in ("passes", "kernels")
    )
    assert "tuned tiles: none -> " in of_passes[1]
    assert "tuned schedules: none -> " in of_kernels[1]
    assert "tuned tiles: " in of_kernels[2]
    assert "tuned schedules" not in of_kernels[2]
    assert of_kernels[3] == "kernels: reused"
    for line in told[len(pieces) :]:
        assert line in of_passes + of_kernels or line.endswith(": reused")
    for output in outputs[1:]:
        np.testing.assert_array_equal(output, outputs[0])
    reports = {report.name: report for report in read_manifest(path / MANIFEST_NAME).passes}
    report = reports["choose_tiles"]
    assert report.matches == 2
    assert report.note == "linear float32 320->320: chunk_bytes 16384, rows 4"
