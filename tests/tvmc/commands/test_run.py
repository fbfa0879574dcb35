from __future__ import annotations

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


def test_prints_times(tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path, inputs: Path) -> None:
    arguments = ("--inputs", inputs, "--print-time", "--repeat", 3)
    code, out, _ = tvmc("run", graph_artefact, *arguments)
    assert code == 0
    assert out.startswith("mean ")
    assert " ms of 3 runs\n" in out


def test_wrong_input_is_one_line(
    tvmc: Tvmc, graph: FakeGraph, graph_artefact: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "z.npz", z=X)
    code, out, err = tvmc("run", graph_artefact, "--inputs", tmp_path / "z.npz")
    assert (code, out) == (4, "")
    assert err == "Error: the input 'x' is missing; give an array for it\n"


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


def test_a_language_model_is_refused(tvmc: Tvmc, artefact: Path, inputs: Path) -> None:
    code, _, err = tvmc("run", artefact, "--inputs", inputs)
    assert code == 4
    assert f"is a language model; use: tvmc generate {artefact}" in err
