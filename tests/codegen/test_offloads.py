"""Which node went where: nothing may be lost on the way through the passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frontend.glm_factory import make_glm_checkpoint
from tests.test_compiler import mlp
from tvm_vacc.cache.store import Cache
from tvm_vacc.codegen.offloads import OURS, STOCK, Offload, find_offloads, offload_report
from tvm_vacc.compiler import passes_of
from tvm_vacc.pipeline import run_pipeline
from tvm_vacc.steps.model_entry import Model, open_graph, open_model
from tvm_vacc.steps.options import resolve_options
from tvm_vacc.target_string import make_target


def offloads_of(model: Model, path: Path) -> tuple[tuple[Offload, ...], set[str], set[str], str]:
    """Return the operators, the nodes that none computes, all nodes, and the report."""
    imported = model.read(True)
    steps = passes_of(model, resolve_options(path), make_target("tvm_vacc -mcpu=znver4"))
    module, _ = run_pipeline(imported.module, steps)
    found, gone = find_offloads(imported, module)
    nodes = {node.label for node in imported.nodes}
    return found, set(gone), nodes, offload_report(imported, module)


def test_a_graph(tmp_path: Path) -> None:
    path = mlp(tmp_path / "mlp.onnx")
    found, gone, nodes, report = offloads_of(open_graph(resolve_options(path)), path)
    assert [(each.place, each.operator, len(each.nodes)) for each in found] == [
        (OURS, "packed_linear", 2),
        (STOCK, "nn.relu", 1),
        (OURS, "packed_linear", 1),
        (STOCK, "nn.softmax", 1),
    ]
    assert {node for each in found for node in each.nodes} == nodes
    assert not gone
    assert report.startswith("4 operators: 2 on tvm_vacc, 2 on stock TVM\ntvm_vacc <- ")


def test_a_glm(tmp_path: Path) -> None:
    path = make_glm_checkpoint(tmp_path / "tiny", num_hidden_layers=1)
    options = resolve_options(path, output=tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        cache = Cache(tmp_path / "cache", "out", reuse=False)
        model = open_model(options, cache, lambda _: None)
        found, gone, nodes, _ = offloads_of(model, path)
    ours = [each.operator for each in found if each.place == OURS]
    assert ours.count("packed_linear") == 7
    assert {"rms_norm", "rope", "swiglu", "embedding", "gqa_attention", "kv_append"} <= set(ours)
    made = [each.operator for each in found if not each.nodes and each.place == OURS]
    assert not made  # every kernel of ours is told of by nodes
    assert {node for each in found for node in each.nodes} | gone == nodes
