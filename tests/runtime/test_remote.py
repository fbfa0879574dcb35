"""An artefact over TVM's own tracker and server, which run on loopback."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tvm_vacc
from tests.runtime.rpc_programs import LOOPBACK, Program, program, wait_for
from tvm_vacc import tvmc
from tvm_vacc.artifact.archive import pack_artifact
from tvm_vacc.errors import ArtifactError, RequestError
from tvm_vacc.relay.compile_library import compile_library
from tvm_vacc.runtime.remote import open_remote
from tvm_vacc.runtime.rpc_server import borrow_server
from tvm_vacc.runtime.run_graph import run_graph
from tvm_vacc.tvmc.main import main

KEY = "here"
X = np.random.default_rng(0).random((5, 17), np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear with a bias and a ReLU, both of them outputs; the batch is open."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.random((17, 9), np.float32) - 0.5, "b": rng.random(9, np.float32)}
    nodes = [("MatMul", ["x", "w"], "p"), ("Add", ["p", "b"], "h"), ("Relu", ["h"], "y")]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 17])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 9]) for n in ("h", "y")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path_factory.mktemp("model") / "two.onnx"
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def artefact(model: Path) -> Path:
    return tvm_vacc.compile(model, output=model.parent / "out")


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Program]]:
    """The port of a tracker, and its only server."""
    from tvm import rpc

    folder = tmp_path_factory.mktemp("rpc")
    with ExitStack() as stack:
        port = stack.enter_context(program("rpc_tracker", folder)).port
        arguments = ("--tracker", f"{LOOPBACK}:{port}", "--key", KEY)
        server = stack.enter_context(program("rpc_server", folder, *arguments))
        connection = rpc.connect_tracker(LOOPBACK, port)
        wait_for(lambda: bool(connection.summary()["queue_info"].get(KEY, {}).get("free")))
        connection.close()
        yield port, server


def check(outputs: dict[str, np.ndarray], model: Path) -> None:
    want = onnxruntime.InferenceSession(model).run(["h", "y"], {"x": X})
    assert list(outputs) == ["h", "y"]
    for array, expected in zip(outputs.values(), want, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["dir", "tar", "so"])
def test_outputs_and_times(
    model: Path, artefact: Path, tracker: tuple[int, Program], tmp_path: Path, form: str
) -> None:
    path = artefact if form == "dir" else tmp_path / f"two.{form}"
    if form == "tar":
        pack_artifact(artefact, path)
    elif form == "so":
        compile_library(model, output=path)
    with open_remote(path, LOOPBACK, tracker[0], KEY, 60) as remote:
        for end_to_end in (False, True):
            result = run_graph(
                remote, {"x": X}, timed=True, repeat=3, number=2, end_to_end=end_to_end
            )
            check(result.outputs, model)
            assert len(result.times) == 3
            assert min(result.times) > 0
        with pytest.raises(RequestError, match="'x' is float32"):
            remote.run({"x": X[:, :3]})
        assert remote.run({"x": X[:2]})["y"].shape == (2, 9)


def test_the_command(
    artefact: Path, tracker: tuple[int, Program], capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--rpc-tracker", f"{LOOPBACK}:{tracker[0]}", "--rpc-key", KEY)
    assert main(["run", str(artefact), *place, "--input-shapes", "x:[2,17]", "--print-time"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mean ")
    assert lines[1:] == ["h float32 [2, 9]", "y float32 [2, 9]"]


def test_the_function(model: Path, artefact: Path, tracker: tuple[int, Program]) -> None:
    package = tvmc.TVMCPackage(artefact)
    place = {"hostname": LOOPBACK, "port": str(tracker[0]), "rpc_key": KEY}
    result = tvmc.run(package, device="cpu", **place, inputs={"x": X}, repeat=3)  # type: ignore
    check(result.outputs, model)
    assert len(result.times) == 3


def test_a_key_that_no_server_has(artefact: Path, tracker: tuple[int, Program]) -> None:
    message = rf"tracker at {LOOPBACK}:{tracker[0]} has no server 'other', it has: {KEY}; start"
    with (
        pytest.raises(RequestError, match=message),
        open_remote(artefact, LOOPBACK, tracker[0], "other", 1),
    ):
        pass


def test_servers_that_all_work_for_others(tracker: tuple[int, Program]) -> None:
    message = f"no RPC server '{KEY}' .* was free for 1 seconds"
    with (
        borrow_server(LOOPBACK, tracker[0], KEY, 60),
        pytest.raises(RequestError, match=message),
        borrow_server(LOOPBACK, tracker[0], KEY, 1),
    ):
        pass


def test_a_server_that_falls_silent(artefact: Path, tracker: tuple[int, Program]) -> None:
    with open_remote(artefact, LOOPBACK, tracker[0], KEY, 1) as remote:
        tracker[1].signal(signal.SIGSTOP)
        try:
            with pytest.raises(RequestError, match="has not answered for 1 seconds"):
                remote.run({"x": X})
        finally:
            tracker[1].signal(signal.SIGCONT)


def test_a_server_that_dies(artefact: Path, tmp_path: Path) -> None:
    with program("rpc_server", tmp_path) as server:  # reached without a tracker
        message = f"the RPC server at {LOOPBACK}:{server.port} failed: "
        with open_remote(artefact, LOOPBACK, server.port, None, 60) as remote:
            assert remote.run({"x": X})["y"].shape == (5, 9)
            server.signal(signal.SIGKILL)
            with pytest.raises(RequestError, match=message):
                remote.run({"x": X})
            with pytest.raises(RequestError, match=message):
                remote.seconds({"x": X}, repeat=1, number=1)


@pytest.mark.parametrize(("key", "what"), [("a", "tracker"), (None, "server")])
def test_nobody_there(artefact: Path, key: str | None, what: str) -> None:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))  # and does not listen
        port = free.getsockname()[1]
        message = f"no RPC {what} answers at {LOOPBACK}:{port}: .*; .*tvm.exec.rpc_{what}"
        with (
            pytest.raises(RequestError, match=message),
            open_remote(artefact, LOOPBACK, port, key, 1),
        ):
            pass


@pytest.mark.parametrize(("key", "what"), [("a", "tracker"), (None, "server")])
def test_somebody_who_says_nothing(
    artefact: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, what: str
) -> None:
    monkeypatch.setattr("tvm_vacc.runtime.rpc_server.RPC_CONNECT_SECONDS", 0.5)
    with socket.create_server((LOOPBACK, 0)) as silent:
        port = silent.getsockname()[1]
        message = f"no RPC {what} answers at {LOOPBACK}:{port}: "
        with (
            pytest.raises(RequestError, match=message),
            open_remote(artefact, LOOPBACK, port, key, 1),
        ):
            pass


def test_kernels_that_cannot_be_sent(model: Path, tmp_path: Path) -> None:
    path = tvm_vacc.compile(model, output=tmp_path / "out", cross_compiler="none")
    with pytest.raises(ArtifactError, match="no library"), open_remote(path, "h", 1, "a", 1):
        pass
