from __future__ import annotations

import pytest
from tvm import relax

from relay_passes.base import NUM_CACHES, NUM_INPUT
from relay_passes.bound_memory import ATTRIBUTE, BoundMemory
from relay_passes.bundle_params import ENTRY, BundleParams
from tests.relay_passes.fused_glm import FusedGlm, tiny_spec


def test_caches_then_weights_become_one_tuple() -> None:
    module = FusedGlm(tiny_spec()).build()
    main = module["main"]
    result = BundleParams().apply(module)
    relax.analysis.well_formed(result.module)
    assert result.matches == 1
    assert [gvar.name_hint for gvar in result.module.get_global_vars()] == [ENTRY]
    forward = result.module[ENTRY]
    plain = int(main.attrs[NUM_INPUT]) - int(main.attrs[NUM_CACHES])
    assert [param.name for param in forward.params[:-1]] == [
        param.name for param in main.params[:plain]
    ]
    bundled = forward.params[-1].ty.fields
    assert len(bundled) == len(main.params) - plain
    for ty, param in zip(bundled, main.params[plain:], strict=True):
        assert len(ty.shape) == len(param.ty.shape)
        assert ty.dtype == param.ty.dtype
    assert module["main"].same_as(main), "the given module has changed"


def test_bounds_of_unknown_symbols_are_not_counted() -> None:
    module = BundleParams().apply(FusedGlm(tiny_spec()).build()).module
    result = BoundMemory({"slots": 64, "kv_lens": 8, "query_start": 9, "nothing": 1}).apply(module)
    assert result.matches == 2
    assert dict(result.module[ENTRY].attrs[ATTRIBUTE]) == {"seq": 64, "rows": 8}


@pytest.mark.parametrize("bounds", [{}, {"nothing": 1}])
def test_no_bound_no_match(bounds: dict[str, int]) -> None:
    module = BundleParams().apply(FusedGlm(tiny_spec()).build()).module
    assert BoundMemory(bounds).apply(module).matches == 0
