"""Hugging Face's own graph and ours end in the same operators, and compute what theirs does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import tvm
from tvm import ir, relax

from relay_passes.count_ops import count_ops
from tests.frontend.glm_factory import make_glm_checkpoint
from tests.frontend.hf_export import TinyGlm, export_hf, traced
from tests.ops.harness import to_numpy, to_tvm
from tests.relay_passes.running import CACHE, FUSIONS, apply, fused, op_names, run_main
from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.export_onnx import export_onnx
from tvm_vacc.frontend.import_onnx import ImportedModel, import_onnx

GLM = TinyGlm()
MULTI_QUERY = TinyGlm(layers=1, kv_heads=1, partial_rotary=1.0, attention_bias=False)
ONE_TO_ONE = TinyGlm(layers=1, kv_heads=4)

VARIANTS = {
    "opset18": (GLM, 18, {}),
    "opset18-optimised-onnxsim": (GLM, 18, {"optimize": True, "simplify": True}),
    "opset23": (GLM, 23, {}),
    "opset23-optimised-onnxsim": (GLM, 23, {"optimize": True, "simplify": True}),
    "one-kv-head-all-rotary": (MULTI_QUERY, 23, {"optimize": True}),
    "no-repeat-kv": (ONE_TO_ONE, 18, {}),
    "one-product-for-qkv": (ONE_TO_ONE, 18, {"merged_qkv": True}),
    "positions-from-past-18": (MULTI_QUERY, 18, {"positions": "past"}),
    "positions-from-past-23": (MULTI_QUERY, 23, {"positions": "past"}),
    "positions-from-mask-18": (MULTI_QUERY, 18, {"positions": "mask"}),
    "positions-from-mask-23": (MULTI_QUERY, 23, {"positions": "mask", "optimize": True}),
}


def counts(layers: int, options: dict[str, Any] | None = None) -> dict[str, int]:
    """What a GLM holds after fusion, by the page docs/architecture.md."""
    merged = bool(options and options.get("merged_qkv"))
    return {
        "embedding": 1,
        "gqa_attention": layers,
        "kv_append": layers,
        "linear": (4 if merged else 6) * layers + 1,
        "rms_norm": 2 * layers + 1,
        "rope": 2 * layers,
        "swiglu": layers,
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Export a variant once, however many tests read it."""
    directory = tmp_path_factory.mktemp("hf")
    files: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in files:
            glm, opset, options = VARIANTS[name]
            files[name] = export_hf(glm, directory / f"{name}.onnx", opset, **options)
        return files[name]

    return get


@pytest.mark.parametrize("name", VARIANTS)
def test_hf_graph_fuses_whole(exported: Any, name: str) -> None:
    _, module = fused(exported(name))
    assert count_ops(module) == counts(VARIANTS[name][0].layers, VARIANTS[name][2])
    assert not op_names(module) & {"matmul", "nn.softmax", "where", "broadcast_to"}
    inputs = [param.name for param in module["main"].params][:6]
    assert inputs == [
        "input_ids", "position_ids", "slots", "page_table", "query_start", "kv_lens",
    ]  # fmt: skip


def test_our_graph_fuses_to_the_same(tmp_path: Path) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm", dtype="bfloat16")
    path = export_onnx(open_checkpoint(checkpoint), checkpoint / "model.onnx")
    model, module = fused(path)
    assert count_ops(module) == counts(2)
    assert not op_names(module) & {"matmul", "nn.softmax", "where", "broadcast_to", "permute_dims"}
    assert all(ref.dtype == "bfloat16" for ref in model.weights.values())


@pytest.mark.parametrize("name", ["opset18-optimised-onnxsim", "one-kv-head-all-rotary"])
def test_plain_stages_equal_onnx_runtime(exported: Any, name: str) -> None:
    """Imported, and fused up to the cache: the same logits and presents."""
    path, glm = exported(name), VARIANTS[name][0]
    model = import_onnx(path)
    inputs = _inputs(glm, batch=2, past=5, seq=3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = session.run(None, inputs)
    fused_module = model.module
    for graph_pass in FUSIONS:
        fused_module = apply(graph_pass, fused_module)
    for stage in (model.module, fused_module):
        for got, want in zip(run_main(stage, inputs | _weights(model)), wanted, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "name",
    [
        "opset18",
        "one-kv-head-all-rotary",
        "no-repeat-kv",
        "positions-from-mask-18",
        "one-product-for-qkv",
    ],
)
def test_paged_graph_equals_transformers(exported: Any, name: str) -> None:
    """A prefill of 20 tokens, then 12 more, over scattered pages; whole pages for `kv_gather`."""
    glm = VARIANTS[name][0]
    model = import_onnx(exported(name))
    module = model.module
    for graph_pass in (*FUSIONS, CACHE[0]):
        module = apply(graph_pass, module)
    attention = apply(CACHE[2], apply(CACHE[1], module))
    tokens = np.random.default_rng(1).integers(0, glm.vocab, (1, 32))
    with torch.no_grad():
        wanted = traced(glm)[0](torch.tensor(tokens), use_cache=False).logits.numpy()
    got = _paged_logits(attention, glm, model, tokens, (20, 12))
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=0)
    # kv_gather's dense view holds whole pages, so a row has to end with one.
    got = _paged_logits(module, glm, model, tokens, (16, 16))
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=0)


def _weights(model: ImportedModel) -> dict[str, np.ndarray]:
    return {name: ref.read() for name, ref in model.weights.items()}


def _inputs(glm: TinyGlm, batch: int, past: int, seq: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (batch, glm.kv_heads, past, glm.head_dim)
    caches = {
        f"past_key_values.{i}.{part}": rng.standard_normal(shape, dtype=np.float32)
        for i in range(glm.layers)
        for part in ("key", "value")
    }
    return {
        "input_ids": rng.integers(0, glm.vocab, (batch, seq)),
        "position_ids": np.tile(np.arange(past, past + seq), (batch, 1)),
        "attention_mask": np.ones((batch, past + seq), np.int64),
        **caches,
    }


def _paged_logits(
    module: ir.IRModule,
    glm: TinyGlm,
    model: ImportedModel,
    tokens: np.ndarray,
    chunks: tuple[int, ...],
) -> np.ndarray:
    """Feed `tokens` [1, n] in chunks; the cache's pages lie out of order in the pool."""
    pages = np.array([3, 1])
    values: dict[str, Any] = {name: to_tvm(array) for name, array in _weights(model).items()}
    for i in range(glm.layers):
        key = np.zeros((4, glm.kv_heads, glm.head_dim, 16), np.float32)
        values[f"cache.{i}.key"] = to_tvm(key)
        values[f"cache.{i}.value"] = to_tvm(key.transpose(0, 1, 3, 2))
    run = relax.VirtualMachine(tvm.compile(module, target="llvm", tir_pipeline=NAME), tvm.cpu())[
        "main"
    ]
    logits, past = [], 0
    for length in chunks:
        end = past + length
        positions = np.arange(past, end)
        used = pages[: -(-end // 16)]
        step = {
            "input_ids": tokens[:, past:end].astype(np.int64),
            "position_ids": positions[None].astype(np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "slots": (pages[positions // 16] * 16 + positions % 16).astype(np.int32),
            "page_table": used[None].astype(np.int32),
            "query_start": np.array([0, length], np.int32),
            "kv_lens": np.array([end], np.int32),
        }
        values |= {name: to_tvm(array) for name, array in step.items()}
        result = run(*(values[param.name] for param in module["main"].params))
        logits.append(to_numpy(result))
        past = end
    return np.concatenate(logits, axis=1)
