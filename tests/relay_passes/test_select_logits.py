from __future__ import annotations

from tvm import relax

from relay_passes.base import NUM_INPUT
from relay_passes.select_logits import LOGIT_ROWS, SelectLogits
from tests.relay_passes.fused_glm import FusedGlm, tiny_spec


def test_the_head_and_the_final_norm_see_selected_tokens_only() -> None:
    module = FusedGlm(tiny_spec()).build()
    result = SelectLogits().apply(module)
    relax.analysis.well_formed(result.module)
    assert result.matches == 1
    main = result.module["main"]
    names = [param.name for param in main.params]
    assert names.index(LOGIT_ROWS) == names.index("kv_lens") + 1
    assert int(main.attrs[NUM_INPUT]) == int(module["main"].attrs[NUM_INPUT]) + 1
    outputs = main.params[names.index(LOGIT_ROWS)].ty.shape[0]
    assert list(main.ret_ty.shape)[1].same_as(outputs)
    selected = [
        call for call in calls(main) if len(call.ty.shape) > 1 and call.ty.shape[1].same_as(outputs)
    ]
    assert [call.op.name for call in selected] == [
        "relax.take",
        "relax.tvm_vacc.rms_norm",
        "relax.tvm_vacc.linear",
    ]


def test_a_function_that_ends_otherwise_is_left_alone() -> None:
    x = relax.Var("x", relax.TensorType((1, 4, 8), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x], attrs={"num_input": 1, "num_caches": 0}):
        with builder.dataflow():
            out = builder.emit_output(relax.op.add(x, x))
        builder.emit_func_output(out)
    module = builder.get()
    result = SelectLogits().apply(module)
    assert result.matches == 0
    assert result.module.same_as(module)


def calls(function: relax.Function) -> list[relax.Call]:
    found: list[relax.Call] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call) and isinstance(expr.ty, relax.TensorType):
            found.append(expr)

    relax.analysis.post_order_visit(function, visit)
    return found
