"""`from tvm_vacc import tvmc`: the functions of the former driver, on a small graph."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.test_compiler import mlp
from tvm_vacc import tvmc
from tvm_vacc.errors import ConfigError, RequestError

X = np.random.default_rng(0).standard_normal((3, 17), dtype=np.float32)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlp(tmp_path_factory.mktemp("model") / "mlp.onnx")


@pytest.fixture(scope="module")
def want(model_path: Path) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(model_path).run(None, {"x": X})[0])


def check(result: tvmc.TVMCResult, want: np.ndarray, name: str = "y") -> None:
    np.testing.assert_allclose(result.get_output(name), want, rtol=1e-5, atol=1e-6)


def test_a_file_compiles_and_runs(model_path: Path, want: np.ndarray) -> None:
    model = tvmc.load(str(model_path))
    package = tvmc.compile(model, "tvm_vacc, llvm", executor="graph", opt_level=3)
    assert package.package_path == model.default_package_path()
    result = tvmc.run(package, device="cpu", inputs={"x": X}, repeat=3)
    check(result, want)
    assert len(result.times) == 3
    assert result.format_times().startswith("Execution time summary:")
    assert "y: [3, 5]" in str(result)


@pytest.mark.parametrize("form", ["tar", "so"])
def test_one_file_holds_it_all(
    model_path: Path,
    want: np.ndarray,
    tmp_path: Path,
    form: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"mlp.{form}"
    offloads = tmp_path / "offloads.txt"
    package = tvmc.compile(
        tvmc.load(model_path),
        package_path=path,
        mod_name="mlp",
        dump_offloads=str(offloads),
        dump_code="relax",
    )
    assert package.package_path == str(path)
    check(tvmc.run(tvmc.TVMCPackage(path), inputs={"x": X}, print_time=False), want)
    assert "tvm_vacc <- packed_linear <- MatMul MatMul_0, Add Add_1" in offloads.read_text()
    assert "packed_linear" in (tmp_path / f"mlp.{form}.relax").read_text()
    assert not list(tmp_path.glob(".*artefact"))


def test_a_module_is_saved_and_compiled(model_path: Path, want: np.ndarray, tmp_path: Path) -> None:
    model = tvmc.load(model_path, shape_dict={"x": [3, 17]})
    model.save(tmp_path / "saved.tar")
    again = tvmc.TVMCModel(model_path=str(tmp_path / "saved.tar"))
    text = io.StringIO()
    again.summary(text)
    assert "R.Tensor((3, 17)" in text.getvalue()
    package = tvmc.compile(tvmc.TVMCModel(again.mod, again.params), dtype="fp32")
    check(tvmc.run(package, inputs={"x": X}), want, "output0")


def test_what_cannot_be_is_refused(model_path: Path, tmp_path: Path) -> None:
    model = tvmc.load(model_path)
    with pytest.raises(ConfigError, match="take -f mlf"):
        tvmc.compile(model, runtime="crt")
    with pytest.raises(ConfigError, match="llvm has no color"):
        tvmc.compile(model, additional_target_options={"llvm": {"color": "red"}})
    with pytest.raises(ConfigError, match=r"--input-shapes: z: .*has no such input"):
        tvmc.compile(tvmc.load(model_path, shape_dict={"z": [1]}), package_path=tmp_path / "z")
    with pytest.raises(ConfigError, match="no such file"):
        tvmc.load(tmp_path / "nosuch.onnx")
    with pytest.raises(ConfigError, match="takes a module and its params"):
        tvmc.TVMCModel()
    with pytest.raises(ConfigError, match="is no saved TVMCModel"):
        tvmc.TVMCModel(model_path=str(model_path))
    with pytest.raises(ConfigError, match="artefacts run on CPUs"):
        tvmc.run(tvmc.TVMCPackage(model_path), device="cuda")
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        tvmc.nosuch  # noqa: B018


def test_an_open_dimension_is_said(model_path: Path, tmp_path: Path) -> None:
    package = tvmc.compile(tvmc.load(model_path), package_path=tmp_path / "mlp", opt_level=0)
    with pytest.raises(RequestError, match="batch is not known"):
        tvmc.run(package)


def test_inputs_may_be_filled(tmp_path: Path) -> None:
    package = tvmc.compile(tvmc.load(mlp(tmp_path / "mlp.onnx"), shape_dict={"x": [2, 17]}))
    result = tvmc.run(package, fill_mode="zeros", print_time=False)
    assert result.get_output("y").sum() == pytest.approx(2)
