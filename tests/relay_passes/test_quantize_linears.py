from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes.count_ops import count_ops
from relay_passes.pack_weights import PackWeights
from relay_passes.quantize_embedding import QuantizeEmbedding
from relay_passes.quantize_linears import QuantizeLinears
from relay_passes.weight_plan import CODES, PackedWeight, Quantized, Source, read_plan, tensors_of
from schedules import linear_int4, linear_int8
from tests.relay_passes.fused_glm import FusedGlm, tiny_spec
from tests.relay_passes.running import apply, run_main
from tvm_vacc import ops
from tvm_vacc.errors import ConfigError

SPEC = tiny_spec()
L = SPEC.layers


def weights_of(main: relax.Function) -> list[relax.Var]:
    return list(main.params[int(main.attrs["num_input"]) :])


def check_plan(module: ir.IRModule, *, complete: bool) -> dict[str, PackedWeight]:
    """Check that what the plan makes are parameters of that type; return it by source."""
    params = {param.name: param.ty for param in weights_of(module["main"])}
    plan = read_plan(module["main"])
    made = tensors_of(plan)
    assert len({tensor.name for tensor in made}) == len(made)
    for tensor in made:
        assert tuple(int(dim) for dim in params[tensor.name].shape) == tensor.shape
        assert params[tensor.name].dtype == tensor.dtype
    if complete:
        assert [tensor.name for tensor in made] == list(params)
    return {entry.name: entry for entry in plan}


@pytest.mark.parametrize(("head", "matches"), [(None, 6 * L), ("w8a16", 6 * L + 1)])
@pytest.mark.parametrize("scheme", ["w8a16", "w8a8", "w4a16"])
def test_all_linears_of_a_glm_and_the_head_by_its_key(
    scheme: str, head: str | None, matches: int
) -> None:
    options = QuantizeLinears(scheme, "round_to_nearest", 32, head)
    result = options.apply(FusedGlm(SPEC, weight_dtype="bfloat16").build())
    assert relax.analysis.check_well_formed(result.module)
    assert result.matches == matches
    counts = count_ops(result.module)
    assert counts["quantized_linear"] == matches
    assert counts.get("linear", 0) == 6 * L + 1 - matches
    plan = check_plan(result.module, complete=False)
    name = "model.layers.0.mlp.down_proj.weight"
    group = SPEC.intermediate if scheme != "w4a16" else 32
    assert plan[name].quantized == Quantized("round_to_nearest", scheme, group)
    assert plan[name].sources == (Source(name),)
    assert plan[name].layout == CODES
    assert plan[name].tensors[1].shape == (SPEC.hidden, SPEC.intermediate // group)
    assert name not in {param.name for param in weights_of(result.module["main"])}
    assert ("lm_head.weight" in plan) == (head is not None)
    if head is not None:
        assert plan["lm_head.weight"].kind == "head"
        assert plan["lm_head.weight"].quantized == Quantized("round_to_nearest", head, SPEC.hidden)


@pytest.mark.parametrize("scheme", ["w8a8", "w4a16"])
def test_activations_are_spared_behind_swiglu_and_where_outputs_are_few(scheme: str) -> None:
    spec = dataclasses.replace(SPEC, hidden=128, kv_heads=1)
    options = QuantizeLinears(scheme, "round_to_nearest", 32, None, spares_activations=True)
    result = options.apply(FusedGlm(spec, weight_dtype="bfloat16").build())
    assert relax.analysis.check_well_formed(result.module)
    found = {
        name.split(".")[-2]: entry.quantized.scheme
        for name, entry in check_plan(result.module, complete=False).items()
        if entry.quantized is not None
    }
    spared = ("k_proj", "v_proj", "down_proj") if scheme == "w8a8" else ()
    assert found == {
        name: "w8a16" if name in spared else scheme
        for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj")
    }


@pytest.mark.parametrize("scheme", ["w8a16", "w4a16"])
def test_packing_takes_over_the_codes(scheme: str) -> None:
    module = FusedGlm(SPEC, weight_dtype="bfloat16").build()
    module = QuantizeLinears(scheme, "round_to_nearest", 32, None).apply(module).module
    module = QuantizeEmbedding().apply(module).module
    result = PackWeights("bfloat16").apply(module)
    assert relax.analysis.check_well_formed(result.module)
    assert result.matches == 6 * L + 1
    counts = count_ops(result.module)
    assert (counts["packed_quantized_linear"], counts["packed_linear"]) == (6 * L, 1)
    plan = check_plan(result.module, complete=True)
    hidden, inner = SPEC.hidden, SPEC.intermediate
    codes, scales = plan["model.layers.1.mlp.down_proj.weight"].tensors
    if scheme == "w8a16":
        assert codes.shape == linear_int8.packed_shape(hidden, inner)
        assert (scales.shape, scales.dtype) == ((hidden,), "float32")
    else:
        assert (codes.shape, scales.shape) == linear_int4.packed_shapes(hidden, inner, 32)
    table = plan["model.embed_tokens.weight"]
    assert (table.kind, table.layout) == ("embedding", CODES)
    assert [tensor.shape for tensor in table.tensors] == [(SPEC.vocab, hidden), (SPEC.vocab, 1)]
    kinds = {entry.kind for entry in plan.values()}
    assert kinds == {"linear", "head", "embedding", "other"}


def linear_by(
    build: Callable[..., Any], weights: dict[str, tuple[int, ...]], inputs: int
) -> ir.IRModule:
    """``main`` is a linear by what `build` makes of `weights`."""
    x = relax.Var("x", relax.TensorType((3, inputs), "float32"))
    params = [relax.Var(n, relax.TensorType(shape, "float32")) for n, shape in weights.items()]
    builder = relax.BlockBuilder()
    with builder.function("main", [x, *params], attrs={"num_input": 1}):
        with builder.dataflow():
            matrix, *bias = build(builder.emit, *params)
            out = builder.emit_output(ops.linear(x, matrix, *bias))
        builder.emit_func_output(out)
    return builder.get()


def joined(emit: Callable[..., relax.Var], *params: relax.Var) -> list[relax.Expr]:
    """Two weights, the second one stored transposed, and two biases, each one joined."""
    transposed = emit(relax.op.permute_dims(params[1], [1, 0]))
    matrix = emit(relax.op.concat([params[0], transposed], axis=0))
    return [matrix, emit(relax.op.concat(params[2:], axis=0))]


JOINED = {"a": (5, 32), "b": (32, 7), "c": (5,), "d": (7,)}


def test_weights_joined_along_their_outputs_are_one() -> None:
    module = linear_by(joined, JOINED, 32)
    result = QuantizeLinears("w8a16", "round_to_nearest", 32, "w8a16").apply(module)
    assert result.matches == 1
    plan = check_plan(result.module, complete=False)
    assert plan["a+b"].sources == (Source("a"), Source("b", transposed=True))
    assert plan["a+b"].tensors[0].shape == (12, 32)
    packed = PackWeights("float32").apply(result.module)
    plan = check_plan(packed.module, complete=True)
    assert list(plan) == ["a+b", "c+d"]
    assert plan["c+d"].sources == (Source("c"), Source("d"))


def test_a_join_of_transposes_is_seen_through() -> None:
    def build(emit: Callable[..., relax.Var], *params: relax.Var) -> list[relax.Expr]:
        wide = emit(relax.op.concat(params, axis=1))
        return [emit(relax.op.permute_dims(wide, [1, 0]))]

    module = linear_by(build, {"a": (32, 5), "b": (32, 7)}, 32)
    [entry] = read_plan(
        QuantizeLinears("w4a16", "round_to_nearest", 32, "w4a16").apply(module).module["main"]
    )
    assert entry.sources == (Source("a", transposed=True), Source("b", transposed=True))


@pytest.mark.parametrize(
    "build",
    [
        lambda emit, a, b: [emit(relax.op.add(a, b))],
        lambda emit, a, b: [emit(relax.op.concat([a, emit(relax.op.negative(b))], axis=0))],
        lambda emit, a, b: [emit(relax.op.reshape(emit(relax.op.concat([a, b], axis=1)), [8, 8]))],
    ],
)
def test_a_computed_weight_stays(build: Callable[..., Any]) -> None:
    module = linear_by(build, {"a": (4, 8), "b": (4, 8)}, 8)
    result = QuantizeLinears("w8a16", "round_to_nearest", 32, "w8a16").apply(module)
    assert result.matches == 0
    assert read_plan(result.module["main"]) == ()


def test_inputs_that_do_not_fill_their_groups_are_refused() -> None:
    def build(_emit: object, weight: relax.Var) -> list[relax.Expr]:
        return [weight]

    module = linear_by(build, {"w": (4, 96)}, 96)
    with pytest.raises(ConfigError, match=r"group_size: 64 .* 96 inputs of w; write 32"):
        QuantizeLinears("w4a16", "round_to_nearest", 64, "w4a16").apply(module)
    module = linear_by(build, {"w": (4, 17)}, 17)
    with pytest.raises(ConfigError, match=r"17 inputs of w; write type: w8a16"):
        QuantizeLinears("w4a16", "round_to_nearest", 64, "w4a16").apply(module)


def test_a_weight_inside_the_graph_is_refused_rather_than_left() -> None:
    def build(emit: Callable[..., relax.Var], _: relax.Var) -> list[relax.Expr]:
        constant = relax.const(np.ones((8, 4), np.float32))
        return [emit(relax.op.permute_dims(constant, [1, 0]))]

    module = linear_by(build, {"unused": (4, 8)}, 8)
    with pytest.raises(ConfigError, match=r"\[4, 8\] stands inside the .onnx file; save it by"):
        QuantizeLinears("w8a16", "round_to_nearest", 64, "w8a16").apply(module)


@pytest.mark.parametrize("scheme", ["w8a16", "w4a16"])
def test_the_result_computes_what_the_codes_stand_for(scheme: str) -> None:
    module = linear_by(joined, JOINED, 32)
    module = apply(QuantizeLinears(scheme, "round_to_nearest", 32, scheme), module)
    rng = np.random.default_rng(0)
    codes = rng.integers(-8, 8, (12, 32), dtype=np.int8)
    scales = rng.uniform(0.1, 1, (12, 1)).astype(np.float32)
    x = rng.standard_normal((3, 32), dtype=np.float32)
    c, d = rng.standard_normal(5, dtype=np.float32), rng.standard_normal(7, dtype=np.float32)
    values = {"x": x, "c": c, "d": d}
    values |= {f"a+b.{scheme}.codes": codes, f"a+b.{scheme}.scales": scales}
    [got] = run_main(module, values)
    np.testing.assert_allclose(got, x @ (codes * scales).T + np.concatenate([c, d]), atol=1e-4)


def test_only_stored_tables_get_codes() -> None:
    table = relax.Var("table", relax.TensorType((6, 4), "float32"))
    ids = relax.Var("ids", relax.TensorType((2,), "int64"))
    builder = relax.BlockBuilder()
    with builder.function("main", [ids, table], attrs={"num_input": 1}):
        with builder.dataflow():
            doubled = builder.emit(relax.op.add(table, table))
            out = builder.emit_output(ops.embedding(doubled, ids))
        builder.emit_func_output(out)
    assert QuantizeEmbedding().apply(builder.get()).matches == 0
