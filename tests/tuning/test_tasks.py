from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning.models import convolution
from tvm_vacc.errors import ConfigError
from tvm_vacc.tuning.tasks import chosen
from tvm_vacc.tuning.tune import list_tasks


def test_stock_kernels_are_found_the_most_expensive_first(tmp_path: Path) -> None:
    found = list_tasks(convolution(tmp_path / "net.onnx"))
    assert [kernel.name for kernel in found.kernels] == ["fused_conv2d_add_relu", "mean", "softmax"]
    products = 2 * 16 * 14 * 14 * 8 * 3 * 3
    assert products < found.kernels[0].operations < 1.1 * products
    assert [kernel.calls for kernel in found.kernels] == [1, 1, 1]
    assert found.open_kernels == 0


def test_open_dimensions_are_counted(tmp_path: Path) -> None:
    model = convolution(tmp_path / "net.onnx", batch="batch")
    found = list_tasks(model)
    assert (found.kernels, found.open_kernels) == ((), 3)
    given = list_tasks(model, input_shapes={"x": (1, 8, 14, 14)})
    assert (len(given.kernels), given.open_kernels) == (3, 0)


@pytest.mark.parametrize(
    ("text", "names"),
    [("all", "012345"), ("0", "0"), ("0,2,3-5", "02345"), ("3-3,1, 3", "31"), (" 5 ", "5")],
)
def test_numbers_and_ranges(text: str, names: str) -> None:
    assert chosen("012345", text) == list(names)


@pytest.mark.parametrize("text", ["", "6", "4-2", "1,", "a", "-1", "0-6", "list"])
def test_what_names_no_task_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="--tasks"):
        chosen("012345", text)
