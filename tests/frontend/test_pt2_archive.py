"""Programs of torch.export: a plain one passes, whatever torch would unpickle or evaluate not."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.export_torch import export_torch
from tvm_vacc.frontend.pt2_archive import check_pt2


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(17, 33), torch.nn.Linear(33, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.second(torch.relu(self.first(x))), -1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("pt2") / "mlp.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        Mlp().eval(), (torch.zeros(3, 17),), dynamic_shapes={"x": {0: batch}}
    )
    torch.export.save(exported, path)
    return path


def test_a_plain_program_becomes_onnx(program: Path, tmp_path: Path) -> None:
    check_pt2(program)
    export_torch(program, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((7, 17), dtype=np.float32)
    [got] = session.run(None, {"x": x})
    want = torch.export.load(program).module()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


Change = Callable[[str, bytes], bytes]


def changed(program: Path, path: Path, change: Change, extra: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, data in extra.items():
            new.writestr(f"{root}/{name}", data)
    return path


def in_json(suffix: str, edit: Callable[[Any], None]) -> Change:
    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(suffix):
            return data
        document = json.loads(data)
        edit(document)
        return json.dumps(document).encode()

    return change


def unpickled(config: Any) -> None:
    config["config"]["first.bias"]["use_pickle"] = True


def size(text: str) -> Callable[[Any], None]:
    def edit(document: Any) -> None:
        sizes = document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = text

    return edit


def target(text: str) -> Callable[[Any], None]:
    def edit(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = text

    return edit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_json("weights_config.json", unpickled), "first.bias is a pickle"),
        (in_json("/model.json", size("__import__('os').system('x')")), "which is no arithmetic"),
        (in_json("/model.json", size("sympify('1')")), "which is no arithmetic"),
        (in_json("/model.json", size("Symbol('s77', exec='1')")), "which is no arithmetic"),
        (in_json("/model.json", target("torch.os.system")), "which is no operator of ATen"),
        (in_json("/model.json", target("torch.ops.aten.__class__.x.y")), "no operator of ATen"),
        (in_json("/model.json", target("#nccl:x")), "which is no operator of ATen"),
    ],
)
def test_what_torch_would_run_is_refused(
    program: Path, tmp_path: Path, change: Change, message: str
) -> None:
    with pytest.raises(OnnxError, match=message):
        check_pt2(changed(program, tmp_path / "bad.pt2", change, {}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data/weights/model.pt", "is a pickle"),
        ("data/constants/model.pt", "is a pickle"),
        ("data/aotinductor/model/x.so", "is compiled code"),
        ("models/other.json", "holds 2 programs"),
    ],
)
def test_further_entries_are_refused(
    program: Path, tmp_path: Path, name: str, message: str
) -> None:
    path = changed(program, tmp_path / "bad.pt2", lambda _, data: data, {name: b"{}"})
    with pytest.raises(OnnxError, match=message):
        check_pt2(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("was unpickled",))


def test_sample_inputs_are_not_unpickled(program: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Evil(), buffer, pickle_module=pickle)

    def change(name: str, data: bytes) -> bytes:
        return buffer.getvalue() if "/sample_inputs/" in name else data

    path = changed(program, tmp_path / "bad.pt2", change, {})
    with pytest.raises(OnnxError, match="holds more than tensors"):
        export_torch(path, tmp_path / "model.onnx")


def test_what_is_no_zip_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt2"
    path.write_bytes(b"no zip")
    with pytest.raises(OnnxError, match="is no program"):
        check_pt2(path)
