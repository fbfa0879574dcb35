from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.relay.running import run
from tvm_vacc import relay
from tvm_vacc.errors import ConfigError

RNG = np.random.default_rng(11)
ARRAYS = {
    "x": RNG.normal(size=(2, 3, 5)).astype("float32"),
    "y": RNG.normal(size=(2, 3, 5)).astype("float32"),
    "positive": RNG.uniform(0.5, 2, size=(3, 5)).astype("float32"),
    "row": RNG.normal(size=(5,)).astype("float32"),
    "three": RNG.normal(size=(3,)).astype("float32"),
    "weight": RNG.normal(size=(7, 5)).astype("float32"),
    "batch": RNG.normal(size=(2, 4, 5)).astype("float32"),
    "wide": RNG.normal(size=(2, 6, 1, 10)).astype("float32"),
    "ids": np.array([[4, 0, 2], [1, 1, 3]], "int32"),
    "beyond": np.array([-1, 0, 7], "int32"),
}
X, Y, POSITIVE, ROW, THREE = (ARRAYS[name] for name in ("x", "y", "positive", "row", "three"))
WEIGHT, BATCH, WIDE, IDS = (ARRAYS[name] for name in ("weight", "batch", "wide", "ids"))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def layer_norm(x: np.ndarray, axis: int, epsilon: float) -> np.ndarray:
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + epsilon)


V = {
    name: relay.var(name, shape=array.shape, dtype=str(array.dtype))
    for name, array in ARRAYS.items()
}
x, y, positive, row, three = (V[name] for name in ("x", "y", "positive", "row", "three"))
weight, batch, wide, ids = (V[name] for name in ("weight", "batch", "wide", "ids"))
half = relay.const(0.5)

CASES: dict[str, tuple[Any, np.ndarray]] = {
    "add": (relay.add(x, positive), X + POSITIVE),
    "subtract": (relay.subtract(x, row), X - ROW),
    "multiply": (relay.multiply(x, y), X * Y),
    "divide": (relay.divide(x, positive), X / POSITIVE),
    "power": (relay.power(positive, half), POSITIVE**0.5),
    "maximum": (relay.maximum(x, y), np.maximum(X, Y)),
    "minimum": (relay.minimum(x, row), np.minimum(X, ROW)),
    "python operators": ((x + y) * half - x / positive, (X + Y) * 0.5 - X / POSITIVE),
    "negative": (relay.negative(x), -X),
    "abs": (relay.abs(x), np.abs(X)),
    "sqrt": (relay.sqrt(positive), np.sqrt(POSITIVE)),
    "rsqrt": (relay.rsqrt(positive), 1 / np.sqrt(POSITIVE)),
    "exp": (relay.exp(x), np.exp(X)),
    "log": (relay.log(positive), np.log(POSITIVE)),
    "sigmoid": (relay.sigmoid(x), 1 / (1 + np.exp(-X))),
    "tanh": (relay.tanh(x), np.tanh(X)),
    "cos": (relay.cos(x), np.cos(X)),
    "sin": (relay.sin(x), np.sin(X)),
    "floor": (relay.floor(x), np.floor(X)),
    "ceil": (relay.ceil(x), np.ceil(X)),
    "clip": (relay.clip(x, -0.25, 0.5), np.clip(X, -0.25, 0.5)),
    "cast": (relay.cast(x, "int32"), X.astype("int32")),
    "less": (relay.less(x, y), X < Y),
    "greater_equal": (relay.greater_equal(x, row), X >= ROW),
    "equal": (relay.equal(ids, relay.const(1)), IDS == 1),
    "where": (relay.where(relay.less(x, y), x, row), np.where(X < Y, X, ROW)),
    "where of numbers": (
        relay.where(ids, three, relay.negative(three)),
        np.where(IDS, THREE, -THREE),
    ),
    "sum": (relay.sum(x, axis=1), X.sum(1)),
    "sum of all": (relay.sum(x), X.sum()),
    "sum but": (relay.sum(x, axis=[0], exclude=True), X.sum((1, 2))),
    "sum of none": (relay.sum(x, exclude=True), X),
    "mean": (relay.mean(x, axis=[0, -1], keepdims=True), X.mean((0, -1), keepdims=True)),
    "max": (relay.max(x, axis=-2), X.max(-2)),
    "min": (relay.min(x, axis=[1], keepdims=True), X.min(1, keepdims=True)),
    "prod": (relay.prod(positive, axis=0), POSITIVE.prod(0)),
    "argmax": (relay.argmax(x, axis=1), X.argmax(1)),
    "argmax but": (relay.argmax(positive, axis=0, exclude=True), POSITIVE.argmax(1)),
    "cumsum": (relay.cumsum(x, axis=1), X.cumsum(1)),
    "cumsum of all": (relay.cumsum(ids), IDS.cumsum()),
    "cumsum exclusive": (relay.cumsum(x, axis=-1, exclusive=True), X.cumsum(-1) - X),
    "reshape": (relay.reshape(x, (6, 5)), X.reshape(6, 5)),
    "reshape -1": (relay.reshape(x, (5, -1)), X.reshape(5, 6)),
    "reshape one number": (relay.reshape(x, -1), X.reshape(-1)),
    "reshape 0": (relay.reshape(x, (0, -1)), X.reshape(2, 15)),
    "reshape -2": (relay.reshape(wide, (2, -2)), WIDE),
    "reshape -3": (relay.reshape(x, (-3, 5)), X.reshape(6, 5)),
    "reshape -4": (relay.reshape(wide, (0, -4, -1, 3, -3)), WIDE.reshape(2, 2, 3, 10)),
    "transpose": (relay.transpose(x, axes=(1, 2, 0)), X.transpose(1, 2, 0)),
    "transpose reversed": (relay.transpose(x), X.T),
    "concatenate": (relay.concatenate([x, batch], axis=1), np.concatenate([X, BATCH], 1)),
    "concatenate a tuple": (
        relay.concatenate(relay.Tuple([x, y]), axis=-1),
        np.concatenate([X, Y], -1),
    ),
    "stack": (relay.stack([x, y], axis=1), np.stack([X, Y], 1)),
    "expand_dims": (relay.expand_dims(x, axis=1, num_newaxis=2), X[:, None, None]),
    "expand_dims from the end": (relay.expand_dims(x, axis=-1), X[..., None]),
    "squeeze": (relay.squeeze(wide, axis=[2]), WIDE[:, :, 0]),
    "squeeze all": (relay.squeeze(wide), WIDE.squeeze()),
    "split": (relay.split(wide, 2, axis=1)[1], WIDE[:, 3:]),
    "split at": (relay.split(x, [1, 4], axis=-1)[1], X[..., 1:4]),
    "unpacked": (relay.subtract(*relay.split(wide, 2, axis=-1)), WIDE[..., :5] - WIDE[..., 5:]),
    "strided_slice": (relay.strided_slice(x, [0, 1], [2, 3]), X[0:2, 1:3]),
    "strided_slice axes": (relay.strided_slice(x, [-3], [-1], axes=[2]), X[..., -3:-1]),
    "strided_slice steps": (
        relay.strided_slice(x, [0, 4], [2, 0], [1, -2], [0, 2]),
        X[0:2, :, 4:0:-2],
    ),
    "strided_slice short end": (relay.strided_slice(x, [1, 1], [2]), X[1:2, 1:]),
    "strided_slice size": (
        relay.strided_slice(x, [1, 0, 1], [1, -1, 3], slice_mode="size"),
        X[1:2, :, 1:4],
    ),
    "take": (relay.take(weight, ids, axis=0), WEIGHT[IDS]),
    "take of all": (relay.take(x, ids), X.reshape(-1)[IDS]),
    "take clips": (relay.take(row, V["beyond"], axis=0), ROW[[0, 0, 4]]),
    "take wraps": (relay.take(row, V["beyond"], axis=0, mode="wrap"), ROW[[4, 0, 2]]),
    "broadcast_to": (relay.broadcast_to(row, (3, 5)), np.broadcast_to(ROW, (3, 5))),
    "repeat": (relay.repeat(x, 2, axis=1), X.repeat(2, 1)),
    "tile": (relay.tile(row, (2, 3)), np.tile(ROW, (2, 3))),
    "zeros": (relay.zeros((2, 3), "float32"), np.zeros((2, 3), "float32")),
    "ones": (relay.ones((3,), "int32"), np.ones(3, "int32")),
    "full": (relay.full(half, (2, 2)), np.full((2, 2), 0.5, "float32")),
    "zeros_like": (relay.zeros_like(x), np.zeros_like(X)),
    "ones_like": (relay.ones_like(ids), np.ones_like(IDS)),
    "full_like": (relay.full_like(x, half), np.full_like(X, 0.5)),
    "arange": (relay.arange(7, dtype="int32"), np.arange(7, dtype="int32")),
    "arange constants": (
        relay.arange(relay.const(1.0), relay.const(4.0), relay.const(0.5)),
        np.arange(1, 4, 0.5, dtype="float32"),
    ),
    "dense": (relay.nn.dense(x, weight), X @ WEIGHT.T),
    "matmul": (relay.nn.matmul(x, weight, transpose_b=True), X @ WEIGHT.T),
    "matmul of both": (relay.matmul(batch, x, transpose_b=True), BATCH @ X.transpose(0, 2, 1)),
    "matmul transposed": (relay.nn.matmul(x, y, transpose_a=True), X.transpose(0, 2, 1) @ Y),
    "batch_matmul": (relay.nn.batch_matmul(x, batch), X @ BATCH.transpose(0, 2, 1)),
    "batch_matmul plain": (
        relay.nn.batch_matmul(x, relay.transpose(batch, (0, 2, 1)), transpose_b=False),
        X @ BATCH.transpose(0, 2, 1),
    ),
    "bias_add": (relay.nn.bias_add(x, three), X + THREE[:, None]),
    "bias_add last": (relay.nn.bias_add(x, row, axis=-1), X + ROW),
    "softmax": (relay.nn.softmax(x), softmax(X, -1)),
    "softmax of an axis": (relay.nn.softmax(x, axis=1), softmax(X, 1)),
    "log_softmax": (relay.nn.log_softmax(x), np.log(softmax(X, -1))),
    "relu": (relay.nn.relu(x), np.maximum(X, 0)),
    "layer_norm": (
        relay.nn.layer_norm(x, row, relay.negative(row), epsilon=1e-3),
        layer_norm(X, -1, 1e-3) * ROW - ROW,
    ),
    "batch_flatten": (relay.nn.batch_flatten(x), X.reshape(2, 15)),
    "dropout": (relay.nn.dropout(x), X),
    "tuple element": (relay.TupleGetItem(relay.Tuple([x, y]), 1), Y),
}


@pytest.fixture(scope="module")
def results() -> dict[str, np.ndarray]:
    found = run(relay.Tuple([expr for expr, _ in CASES.values()]), ARRAYS)
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_equals_numpy(results: dict[str, np.ndarray], name: str) -> None:
    _, expected = CASES[name]
    assert results[name].shape == expected.shape
    np.testing.assert_allclose(results[name], expected, rtol=1e-5, atol=2e-6)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "shapes": (lambda: relay.add(x, three), "relax.add does not take"),
    "dense": (lambda: relay.nn.dense(x, three), "relax.permute_dims does not take"),
    "split": (lambda: relay.split(x, 2, axis=1), "axis 1 of 3 does not divide into 2"),
    "slice_mode": (lambda: relay.strided_slice(x, [0], [1], slice_mode="no"), "give end or size"),
    "slice lists": (lambda: relay.strided_slice(x, [0], [1, 2]), "give each axis one number"),
    "reshape": (lambda: relay.reshape(x, (0, 0, 0, 0)), "does not fit the shape"),
    "reshape unknown": (lambda: relay.reshape(x, (-9,)), "does not fit the shape"),
    "batch_dims": (lambda: relay.take(x, ids, axis=1, batch_dims=1), "gather_elements"),
    "var": (lambda: relay.var("v"), "give a type or a shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        make()
