from __future__ import annotations

from pathlib import Path

import pytest

from tests.frontend.glm_factory import make_glm_checkpoint
from tests.tuning.models import convolution, linears
from tvm_vacc.errors import ConfigError
from tvm_vacc.tuning.attention_bench import Step
from tvm_vacc.tuning.tasks import OPEN_TOKENS, AttentionKernel, LinearKernel, chosen
from tvm_vacc.tuning.tune import list_tasks


def test_kernels_of_both_kinds_are_found_the_most_expensive_first(tmp_path: Path) -> None:
    found = list_tasks(convolution(tmp_path / "net.onnx"))
    names = ["fused_conv2d_add_relu", "mean", "linear float32 16->10", "softmax"]
    assert [kernel.name for kernel in found.kernels] == names
    products = 2 * 16 * 14 * 14 * 8 * 3 * 3
    assert products < found.kernels[0].operations < 1.1 * products
    assert [kernel.calls for kernel in found.kernels] == [1, 1, 1, 1]
    assert found.open_kernels == 0
    linear = found.kernels[2]
    assert isinstance(linear, LinearKernel)
    assert linear.tokens == (1,)


def test_open_dimensions_are_counted(tmp_path: Path) -> None:
    model = convolution(tmp_path / "net.onnx", batch="batch")
    found = list_tasks(model)
    [linear] = found.kernels
    assert isinstance(linear, LinearKernel)
    assert (linear.tokens, found.open_kernels) == (OPEN_TOKENS, 3)
    given = list_tasks(model, input_shapes={"x": (1, 8, 14, 14)})
    assert (len(given.kernels), given.open_kernels) == (4, 0)


def test_linears_alike_are_one_task_among_the_bytes_of_all(tmp_path: Path) -> None:
    square, last = list_tasks(linears(tmp_path / "net.onnx", hidden=96)).kernels
    assert isinstance(square, LinearKernel)
    assert isinstance(last, LinearKernel)
    assert (square.name, square.calls) == ("linear float32 96->96", 2)
    assert (last.name, last.calls) == ("linear float32 96->65", 1)
    assert square.among == last.among == 3 * 2 * 64 * 96 * 4  # blocks of 64 channels


@pytest.mark.slow
def test_a_language_model_takes_no_more_tokens_than_its_prompts_have(tmp_path: Path) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm")
    found = list_tasks(checkpoint, prefill=32, context=64)
    kernels = [kernel for kernel in found.kernels if isinstance(kernel, LinearKernel)]
    assert kernels
    assert {kernel.tokens for kernel in kernels} == {(1, 8, 32)}
    [attention] = [kernel for kernel in found.kernels if isinstance(kernel, AttentionKernel)]
    assert attention.steps == (Step(1, 1, 1024), Step(8, 1, 1024), Step(1, 32, 32))
    assert attention.operations == 4 * 1024 * attention.of.heads * attention.of.head_dim


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
