from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import FakeGraph

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", x=X)
    return tmp_path / "x.npz"


@pytest.mark.parametrize("name", ["y.npz", "y"])
def test_writes_outputs(
    tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path, inputs: Path, name: str
) -> None:
    outputs = inputs.parent / name
    code, out, err = tvmc("run", graph_artefact, "--inputs", inputs, "--outputs", outputs)
    assert (code, out, err) == (0, "y float32 [2, 3]\n", "")
    with np.load(outputs) as archive:
        np.testing.assert_array_equal(archive["y"], X * 2)


@pytest.mark.parametrize("end_to_end", [(), ("--end-to-end",)])
def test_prints_times(
    tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path, inputs: Path, end_to_end: tuple[str, ...]
) -> None:
    arguments = ("-i", inputs, "--print-time", "--repeat", 3, "--number", 2, *end_to_end)
    code, out, _ = tvmc("run", graph_artefact, *arguments)
    assert code == 0
    assert re.match(
        r"mean \S+ ms, median \S+ ms, min \S+ ms, max \S+ ms, std \S+ ms of 3 runs, "
        r"each of 2 in a row\n",
        out,
    )


def test_prints_the_largest_values(
    tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path, inputs: Path
) -> None:
    code, out, _ = tvmc("run", graph_artefact, "-i", inputs, "--print-top", 2)
    assert (code, out) == (0, "y float32 [2, 3]\n  [1, 2] 10.0\n  [1, 1] 8.0\n")


@pytest.mark.parametrize(("mode", "value"), [("zeros", 0.0), ("ones", 2.0)])
def test_fills_inputs_that_are_not_given(
    tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path, tmp_path: Path, mode: str, value: float
) -> None:
    arguments = ("--fill-mode", mode, "--input-shapes", "x:[4,3]", "-o", tmp_path / "y.npz")
    code, out, err = tvmc("run", graph_artefact, *arguments)
    assert (code, out, err) == (0, "y float32 [4, 3]\n", "")
    with np.load(tmp_path / "y.npz") as archive:
        assert (archive["y"] == value).all()


def test_an_open_dimension_needs_a_shape(
    tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path
) -> None:
    code, out, err = tvmc("run", graph_artefact)
    assert (code, out) == (4, "")
    assert err == (
        "Error: the input 'x' is float32[batch, 3], and batch is not known; give an array for it, "
        'or its shape: --input-shapes "x:[1,3]"\n'
    )


@pytest.mark.parametrize("text", ["x", "x:[a]", "x:[1] x:[2]"])
def test_text_that_is_no_shape_is_one_line(tvmc: Tvmc, graph_artefact: Path, text: str) -> None:
    code, out, err = tvmc("run", graph_artefact, "--input-shapes", text)
    assert (code, out) == (4, "")
    assert err.startswith("Error: --input-shapes")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "cuda"), "--device cuda: artefacts run on CPUs"),
        (("--rpc-key", "b"), "--rpc-key: only a tracker knows keys"),
        (("--rpc-tracker", "two words"), "--rpc-tracker 'two words': is no address"),
        (("--rpc-tracker", "h:70000"), "--rpc-tracker 'h:70000': is no address"),
        (("--rpc-tracker", "h:1", "--profile"), "--profile looks into this process"),
        (("--rpc-tracker", "h:1", "--threads", 1), "--threads is for this machine"),
    ],
)
def test_what_cannot_be_is_refused(
    tvmc: Tvmc, graph_artefact: Path, arguments: tuple[object, ...], message: str
) -> None:
    code, out, err = tvmc("run", graph_artefact, *arguments)
    assert (code, out) == (4, "")
    assert err.startswith(f"Error: {message}")
    assert err.count("\n") == 1


def test_wrong_input_is_one_line(
    tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "z.npz", z=X)
    code, out, err = tvmc("run", graph_artefact, "--inputs", tmp_path / "z.npz")
    assert (code, out) == (4, "")
    assert err == "Error: the model has no input 'z'; it has: x\n"


@pytest.mark.parametrize("kind", ["text", "empty", "npy", "pickle", "truncated"])
def test_files_that_are_no_npz_are_one_line(
    tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path, inputs: Path, kind: str
) -> None:
    path = inputs.parent / "bad.npz"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, X)
    elif kind == "pickle":
        np.savez(path, x=np.array([{}], dtype=object))
    else:
        path.write_bytes(inputs.read_bytes()[:-30])
    code, out, err = tvmc("run", graph_artefact, "--inputs", path)
    assert (code, out) == (4, "")
    assert err.startswith(f"Error: {path}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("remote", [(), ("--rpc-tracker", "h:1", "--rpc-key", "a")])
def test_a_language_model_is_refused(
    tvmc: Tvmc, artefact: Path, inputs: Path, remote: tuple[str, ...]
) -> None:
    code, _, err = tvmc("run", artefact, "--inputs", inputs, *remote)
    assert code == 4
    assert f"is a language model; use: tvmc generate, chat or profile {artefact}" in err
