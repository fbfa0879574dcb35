"""The parts of a GLM, written by hand as scripts wrote them, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tvm

from tests.relay.running import run
from tvm_vacc import relay

TARGETS = ("llvm", "tvm_vacc -mcpu=native")
HEADS, SEQ, DIM, HIDDEN, INNER = 3, 7, 5, 19, 33
RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("target", TARGETS)
def test_an_attention_block(target: str) -> None:
    weights = {name: normal(HEADS * DIM, HIDDEN) / 4 for name in ("wq", "wk", "wv")}
    arrays = {"x": normal(SEQ, HIDDEN), **weights, "wo": normal(HIDDEN, HEADS * DIM) / 4}
    v = {name: relay.var(name, shape=array.shape) for name, array in arrays.items()}

    def heads(weight: str) -> tvm.relax.Expr:
        flat = relay.nn.dense(v["x"], v[weight])
        return relay.transpose(relay.reshape(flat, (0, HEADS, -1)), axes=[1, 0, 2])

    scores = relay.nn.batch_matmul(heads("wq"), heads("wk")) * relay.const(DIM**-0.5)
    rows = relay.reshape(relay.arange(SEQ, dtype="int32"), (SEQ, 1))
    columns = relay.reshape(relay.arange(SEQ, dtype="int32"), (1, SEQ))
    mask = relay.greater(columns, rows)
    scores = relay.where(mask, relay.full(relay.const(-1e9), (HEADS, SEQ, SEQ)), scores)
    mixed = relay.nn.batch_matmul(relay.nn.softmax(scores, axis=-1), heads("wv"), transpose_b=False)
    joined = relay.reshape(relay.transpose(mixed, axes=[1, 0, 2]), (0, -3))
    out = v["x"] + relay.nn.dense(joined, v["wo"])

    q, k, val = (
        (arrays["x"] @ arrays[name].T).reshape(SEQ, HEADS, DIM).transpose(1, 0, 2)
        for name in ("wq", "wk", "wv")
    )
    expected = q @ k.transpose(0, 2, 1) * DIM**-0.5
    expected = softmax(np.where(np.triu(np.ones((SEQ, SEQ)), 1), -1e9, expected)) @ val
    expected = arrays["x"] + expected.transpose(1, 0, 2).reshape(SEQ, -1) @ arrays["wo"].T

    [got] = run(out, arrays, target=target, params=["wq", "wk", "wv", "wo"])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_rms_norm_of_any_number_of_tokens(target: str) -> None:
    x = relay.var("x", shape=(relay.Any(), HIDDEN))
    weight = relay.var("weight", shape=(HIDDEN,))
    square = relay.mean(relay.power(x, relay.const(2.0)), axis=-1, keepdims=True)
    out = x * relay.rsqrt(square + relay.const(1e-5)) * weight
    w = normal(HIDDEN)
    for tokens in (1, 13):
        array = normal(tokens, HIDDEN)
        expected = array / np.sqrt((array**2).mean(-1, keepdims=True) + 1e-5) * w
        [got] = run(out, {"x": array, "weight": w}, target=target, params=["weight"])
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_swiglu_of_a_named_number_of_tokens(target: str) -> None:
    x = relay.var("x", shape=("tokens", HIDDEN))
    residual = relay.var("residual", shape=("tokens", HIDDEN))
    gate_up = relay.var("gate_up", shape=(2 * INNER, HIDDEN))
    down = relay.var("down", shape=(HIDDEN, INNER))
    gate, up = relay.split(relay.nn.dense(x, gate_up), 2, axis=-1)
    out = residual + relay.nn.dense(gate * relay.sigmoid(gate) * up, down)
    arrays = {
        "x": normal(11, HIDDEN),
        "residual": normal(11, HIDDEN),
        "gate_up": normal(2 * INNER, HIDDEN) / 4,
        "down": normal(HIDDEN, INNER) / 4,
    }
    g, u = np.split(arrays["x"] @ arrays["gate_up"].T, 2, -1)
    expected = arrays["residual"] + (g / (1 + np.exp(-g)) * u) @ arrays["down"].T
    [got] = run(out, arrays, target=target, params=["gate_up", "down"])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
