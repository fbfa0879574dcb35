"""Kernels that another process compiles while weights are packed."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tvm

import tvm_vacc
from tests.test_compiler import mlp
from tvm_vacc import compiler
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.cache.key import Key
from tvm_vacc.cache.store import Cache
from tvm_vacc.codegen.linker import find_linker
from tvm_vacc.codegen.options import BuildOptions, BuildWatch
from tvm_vacc.errors import TargetError
from tvm_vacc.progress import Progress
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.steps import kernels as kernels_step
from tvm_vacc.steps.kernels import Finish, making_kernels
from tvm_vacc.steps.passes import Lowered, make_passes
from tvm_vacc.target import triple_of
from tvm_vacc.target_string import make_target

TARGET = "tvm_vacc -mcpu=x86-64-v2"


@pytest.fixture(autouse=True)
def _all_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_step, "BESIDE_BYTES", 0)


@pytest.fixture(scope="module")
def target() -> tvm.target.Target:
    return make_target(TARGET)


@pytest.fixture(scope="module")
def lowered(target: tvm.target.Target, tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    directory = tmp_path_factory.mktemp("mlp")
    options = compiler.resolve_options(mlp(directory / "mlp.onnx"))
    build, watch = BuildOptions(), BuildWatch()
    cache = Cache(directory / "cache", "mlp")
    model = compiler.open_model(options, cache, lambda _: None)
    steps = compiler.steps_of(model, options, target, build, watch)
    key = Key({"dtype": "fp32"})
    return make_passes(model.read, steps, directory, key, cache, lambda _: None, watch)


@contextmanager
def making(
    lowered: Lowered, target: tvm.target.Target, directory: Path, told: list[Progress]
) -> Iterator[Finish]:
    cache = Cache(directory / "cache", "mlp")
    with (
        ArtifactWriter(directory / "mlp") as writer,
        making_kernels(
            lowered,
            target,
            find_linker(triple_of(target)),
            cache,
            writer,
            told.append,
            options=BuildOptions(disabled=("fuse_rope",)),
            watch=BuildWatch(),
        ) as finish,
    ):
        yield finish


def test_they_compute_what_those_compiled_here_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mlp(tmp_path / "mlp.onnx")
    phases: list[str] = []
    beside = tvm_vacc.compile(
        path,
        output=tmp_path / "beside",
        target=TARGET,
        progress=lambda told: phases.append(f"{told.phase} {told.done}/{told.total}"),
    )
    assert phases[-2:] == ["kernels 0/1", "kernels 1/1"]  # behind the weights
    monkeypatch.undo()
    here = tvm_vacc.compile(path, output=tmp_path / "here", target=TARGET, reuse=False)
    x = np.random.default_rng(0).standard_normal((3, 17), dtype=np.float32)
    results = []
    for artefact in (beside, here):
        graph = tvm_vacc.load(artefact)
        assert isinstance(graph, Graph)
        results.append(graph.run({"x": x})["y"])
    np.testing.assert_array_equal(*results)


def test_they_are_kept_though_what_goes_on_beside_them_fails(
    lowered: Lowered, target: tvm.target.Target, tmp_path: Path
) -> None:
    def fail_behind_them() -> None:
        with making(lowered, target, tmp_path, []):
            for thread in threading.enumerate():
                if thread.name.startswith("kernels"):
                    [piece] = (tmp_path / "cache" / "kernels").glob("*.part")
                    while piece.exists():
                        threading.Event().wait(0.05)
            raise KeyError("the weights")

    with pytest.raises(KeyError, match="the weights"):
        fail_behind_them()
    told: list[Progress] = []
    with making(lowered, target, tmp_path, told) as finish:
        assert finish() == ()
    assert told == []


def test_what_fails_beside_them_ends_them(
    lowered: Lowered, target: tvm.target.Target, tmp_path: Path
) -> None:
    def fail_at_once() -> None:
        with making(lowered, target, tmp_path, []):
            raise KeyError("the weights")

    with pytest.raises(KeyError, match="the weights"):
        fail_at_once()
    [partial] = (tmp_path / "cache" / "kernels").glob("*.part")
    assert json.loads((partial / "task.json").read_text())["disabled"] == ["fuse_rope"]
    assert not any(thread.name.startswith("kernels") for thread in threading.enumerate())


def test_a_process_that_dies_is_one_line(
    lowered: Lowered, target: tvm.target.Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        making(lowered, target, tmp_path, []) as finish,
        pytest.raises(TargetError, match="making its kernels ended: exit code 1; please"),
    ):
        finish()
