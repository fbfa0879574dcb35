from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tvm_vacc
from tests.frontend.glm_factory import make_glm_checkpoint
from tests.test_compiler import mlp
from tvm_vacc.errors import RequestError
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.runtime.model import Model
from tvm_vacc.runtime.profile import KernelProfile, Profile, profile_graph, profile_model

CONTEXT, TOKENS, BATCH = 40, 3, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("glm")
    checkpoint = make_glm_checkpoint(directory / "tiny")
    loaded = tvm_vacc.load(tvm_vacc.compile(checkpoint, output=directory / "out", dtype="bf16"))
    assert isinstance(loaded, Model)
    return loaded


@pytest.fixture(scope="module")
def profile(model: Model) -> Profile:
    return profile_model(model, context=CONTEXT, tokens=TOKENS, batch=BATCH, rounds=3)


def total(profile: Profile, field: str) -> int:
    return sum(getattr(kernel, field) for kernel in profile.kernels)


def test_counts_the_operations_of_every_product(model: Model, profile: Profile) -> None:
    spec = model.spec
    width, key_value = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    layer = spec.hidden * (2 * width + 2 * key_value + 3 * spec.intermediate)
    pairs = BATCH * sum(CONTEXT + token + 1 for token in range(TOKENS))
    products = BATCH * TOKENS * spec.layers * layer + BATCH * spec.vocab * spec.hidden
    assert total(profile, "operations") == 2 * products + 4 * pairs * spec.layers * width


def test_weights_are_read_once_and_of_the_cache_what_is_there(
    model: Model, profile: Profile
) -> None:
    spec = model.spec
    pools = {f"bfloat16 {' x '.join(map(str, pool.shape))}" for pool in model.params[:2]}
    caches = [kernel for kernel in profile.kernels if kernel.weight in pools]
    position = 2 * 2 * spec.kv_heads * spec.head_dim * spec.layers
    new = BATCH * TOKENS
    activations = 4 * new * spec.layers * (2 * spec.heads + 2 * spec.kv_heads) * spec.head_dim
    # Attention reads all positions, appending writes the new ones; indices are small change.
    expected = position * (BATCH * (CONTEXT + TOKENS) + new) + activations
    assert expected <= sum(kernel.bytes for kernel in caches) < expected + 2000
    # The table alone has 300 rows of 64 values; six of them are read.
    [table] = [k for k in profile.kernels if k.calls == 1 and k.weight.endswith("300 x 64")]
    assert table.bytes < 6 * 64 * (2 + 4) + 100


def test_the_run_is_explained(profile: Profile) -> None:
    assert all(kernel.seconds >= 0 for kernel in profile.kernels)
    assert total(profile, "calls") > 2 * 12
    seconds = [kernel.seconds for kernel in profile.kernels]
    assert seconds == sorted(seconds, reverse=True)
    assert 0 < profile.functions < profile.seconds
    assert profile.explained > 0.99


def test_the_model_is_as_before(model: Model) -> None:
    pages = model.pool.free_pages
    prompt = list(range(20))
    before = model.logits(prompt)
    profile_model(model, context=CONTEXT, rounds=1)
    assert model.pool.free_pages == pages
    np.testing.assert_array_equal(model.logits(prompt), before)


@pytest.mark.parametrize(
    "step",
    [
        {"context": -1},
        {"context": 10, "tokens": 0},
        {"context": 10, "batch": 0},
        {"context": 2048},
        {"context": 0, "tokens": 100, "batch": 10_000},
    ],
)
def test_a_step_that_does_not_fit_is_refused(model: Model, step: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="tokens"):
        profile_model(model, **step)


def test_a_plain_graph(tmp_path: Path) -> None:
    graph = tvm_vacc.load(tvm_vacc.compile(mlp(tmp_path / "mlp.onnx"), output=tmp_path / "out"))
    assert isinstance(graph, Graph)
    profile = profile_graph(graph, {"x": np.ones((4, 17), np.float32)}, rounds=2)
    assert profile.kernels
    assert total(profile, "bytes") > 4 * 4 * (17 + 5)
    with pytest.raises(RequestError, match="'x' is missing"):
        profile_graph(graph, {})


def test_the_share_that_is_explained() -> None:
    kernel = KernelProfile("linear", "", 1, 0.25, 0, 0)
    profile = Profile(1.0, 0.75, (kernel, kernel))
    assert (profile.machine, profile.python, profile.explained) == (0.25, 0.25, 1.0)
    beyond = Profile(1.0, 0.25, (kernel, kernel))
    assert (beyond.machine, beyond.explained) == (0.0, 1.25)
