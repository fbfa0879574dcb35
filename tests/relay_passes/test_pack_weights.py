from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.pack_weights import PackWeights
from relay_passes.weight_plan import (
    LINEAR,
    PLAIN,
    MadeTensor,
    PackedWeight,
    Source,
    read_plan,
    tensors_of,
)
from schedules.linear_float import packed_shape
from tests.relay_passes.fused_glm import FusedGlm, tiny_spec
from tvm_vacc import ops


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_weight_has_one_entry_in_parameter_order(dtype: str) -> None:
    spec = tiny_spec()
    result = PackWeights(dtype).apply(FusedGlm(spec, weight_dtype="bfloat16").build())
    relax.analysis.well_formed(result.module)
    assert result.matches == 6 * spec.layers + 1
    main = result.module["main"]
    plan = read_plan(main)
    weights = main.params[int(main.attrs["num_input"]) :]
    made = tensors_of(plan)
    assert [tensor.name for tensor in made] == [param.name for param in weights]
    for tensor, param in zip(made, weights, strict=True):
        assert tuple(int(dim) for dim in param.ty.shape) == tensor.shape
        assert param.ty.dtype == tensor.dtype
    by_source = {weight.name: weight for weight in plan}
    assert len(by_source) == len(plan)
    assert by_source["lm_head.weight"] == PackedWeight(
        "head",
        (Source("lm_head.weight"),),
        LINEAR,
        (MadeTensor("lm_head.weight.linear", packed_shape(spec.vocab, spec.hidden), dtype),),
    )
    assert by_source["model.embed_tokens.weight"].layout == PLAIN
    assert by_source["model.embed_tokens.weight"].tensors[0].dtype == dtype
    assert by_source["model.norm.weight"].tensors[0].dtype == "float32"
    assert by_source["model.layers.0.self_attn.q_proj.bias"].tensors[0].dtype == "float32"


def test_linears_may_have_a_dtype_of_their_own() -> None:
    result = PackWeights("float16", linears="bfloat16").apply(FusedGlm(tiny_spec()).build())
    dtypes = {w.kind: w.tensors[0].dtype for w in read_plan(result.module["main"])}
    assert dtypes["linear"] == dtypes["head"] == "bfloat16"
    assert dtypes["embedding"] == "float16"


def module_with(weight_shape: tuple[int, int], wrap: object) -> object:
    x = relax.Var("x", relax.TensorType((3, 8), "float32"))
    weight = relax.Var("w", relax.TensorType(weight_shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, weight], attrs={"num_input": 1}):
        with builder.dataflow():
            value = builder.emit(wrap(weight))  # type: ignore[operator]
            out = builder.emit_output(ops.linear(x, value))
        builder.emit_func_output(out)
    return builder.get()


def test_a_transposed_weight_is_packed_through_its_transpose() -> None:
    module = module_with((8, 5), lambda weight: relax.op.permute_dims(weight, [1, 0]))
    result = PackWeights("float32").apply(module)
    [entry] = read_plan(result.module["main"])
    assert entry.sources == (Source("w", transposed=True),)
    assert entry.tensors[0].shape == packed_shape(5, 8)


def test_a_computed_weight_is_not_packed() -> None:
    module = module_with(
        (5, 8), lambda weight: relax.op.multiply(weight, relax.const(np.float32(2)))
    )
    result = PackWeights("float32").apply(module)
    assert result.matches == 0
    [entry] = read_plan(result.module["main"])
    made = MadeTensor("w", (5, 8), "float32")
    assert entry == PackedWeight("other", (Source("w"),), PLAIN, (made,))
