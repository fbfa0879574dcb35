"""What is compiled: the format of the file, shapes of inputs, what weights are stored as."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_vacc.errors import ConfigError
from tvm_vacc.tvmc._sections import section, split_list

if TYPE_CHECKING:
    from tvm_vacc.config import Config

option = section("Model")

_PRODUCTS = {"nn.dense", "nn.matmul", "nn.batch_matmul", "matmul", "linear"}
_CONVOLUTIONS = {f"nn.conv{rank}d{suffix}" for rank in (1, 2, 3) for suffix in ("", "_transpose")}
_CALCULATED = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
_MAPPING = re.compile(r"\s*(?P<name>[^\s\[\]]+?)\s*:\s*\[(?P<dims>[^\[\]]*)\]\s*,?")


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of this group to a command."""
    for each in reversed(_OPTIONS):
        command = each(command)
    return command


_OPTIONS = (
    option(
        "--model-format",
        metavar="FORMAT",
        help="huggingface, onnx, pytorch (.pt2 of torch.export), relax (.json, .py) or yaml; "
        "default: as FILE looks.",
    ),
    option(
        "--input-shapes",
        metavar="SHAPES",
        help='"x:[1,3,224,224] y:[1,4]" of an ONNX graph; -1 leaves a dimension open.',
    ),
    option(
        "--dtype",
        type=click.Choice(["fp16", "bf16", "fp32"]),
        help="What weights and KV cache are stored as; default: the checkpoint's own.",
    ),
    option("--context", type=int, help="Longest sequence in tokens, prompt and answer."),
    option("--prefill", type=int, help="Longest piece of a prompt computed in one go."),
    option(
        "--mixed-precision",
        is_flag=True,
        help="Weights of products and convolutions in 16 bits, sums and all else in fp32: the same "
        "as --dtype fp16.",
    ),
    option(
        "--mixed-precision-calculation-type",
        type=click.Choice([*_CALCULATED]),
        help="Other weights for --mixed-precision.  [default: float16]",
    ),
    option("--mixed-precision-ops", multiple=True, takes_words=True, hidden=True),
    option("--mixed-precision-acc-type", hidden=True),
    option("--desired-layout", multiple=True, takes_words=True, hidden=True),
    option("--desired-layout-ops", multiple=True, takes_words=True, hidden=True),
)


@dataclass(frozen=True)
class ModelOptions:
    """The options of this group, as `tvm_vacc.compiler.compile` takes them."""

    model_format: str | None
    input_shapes: dict[str, tuple[int, ...]] | None
    dtype: str | None
    context: int | None
    prefill: int | None


def read_model_options(given: dict[str, Any]) -> ModelOptions:
    """Take the options of this group out of `given`.

    Raises:
        ConfigError: one cannot be used; names what to use instead.
    """
    from tvm_vacc.model_format import check_format

    if given.pop("desired_layout") or given.pop("desired_layout_ops"):
        raise ConfigError(
            "--desired-layout: graphs keep the layout of the model", "leave the option out"
        )
    shapes = given.pop("input_shapes")
    found = given.pop("model_format")
    return ModelOptions(
        model_format=check_format(found) if found else None,
        input_shapes=parse_shapes(shapes) if shapes is not None else None,
        dtype=_dtype(given),
        context=given.pop("context"),
        prefill=given.pop("prefill"),
    )


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes in ``"x:[1,3,224,224] y:[1,4]"`` by name; -1 is an open dimension.

    Raises:
        ConfigError: it is no such text, or names an input twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    position = 0
    while position < len(text.rstrip()):
        found = _MAPPING.match(text, position)
        dims = [dim.strip() for dim in found["dims"].split(",")] if found else [""]
        if dims == [""] and found is not None:
            dims = []  # a scalar
        if found is None or not all(re.fullmatch(r"-?\d+", dim) for dim in dims):
            raise ConfigError(
                f"--input-shapes: {text[position:].strip()!r:.60} is no shape",
                'write "x:[1,3,224,224] y:[1,4]"',
            )
        if found["name"] in shapes:
            raise ConfigError(f"--input-shapes names {found['name']} twice", "name it once")
        shapes[found["name"]] = tuple(map(int, dims))
        position = found.end()
    return shapes


def read_input(file: Path, model_format: str | None) -> Path | Config:
    """Return the config in `file` and tell which of its keys have no effect, or the path itself."""
    from tvm_vacc.config import load_config
    from tvm_vacc.model_format import guess_format

    if (model_format or guess_format(file)) != "yaml":
        return file
    config = load_config(file)
    for note in config.notes:
        click.echo(f"Note: {file}: {note}", err=True)
    return config


def _dtype(given: dict[str, Any]) -> str | None:
    """Return what --dtype or --mixed-precision and its friends ask for."""
    dtype: str | None = given.pop("dtype")
    mixed = given.pop("mixed_precision")
    calculated = given.pop("mixed_precision_calculation_type")
    operators = split_list(given.pop("mixed_precision_ops"))
    sums = given.pop("mixed_precision_acc_type")
    if not mixed:
        if calculated or operators or sums:
            raise ConfigError(
                "--mixed-precision-* says how, --mixed-precision is missing", "give it too"
            )
        return dtype
    _check_operators({name.removeprefix("relax.") for name in operators})
    if sums not in (None, "float32"):
        raise ConfigError(
            f"--mixed-precision-acc-type {sums}: sums are fp32 always", "leave the option out"
        )
    wanted = _CALCULATED[calculated or "float16"]
    if dtype not in (None, wanted):
        raise ConfigError(
            f"--dtype {dtype} and --mixed-precision, which is --dtype {wanted}", "give one of them"
        )
    return wanted


def _check_operators(named: set[str]) -> None:
    """Hold the operators that are to be in 16 bits against those that will be."""
    if unknown := sorted(named - _PRODUCTS - _CONVOLUTIONS):
        raise ConfigError(
            f"--mixed-precision-ops {unknown[0]}: only products of matrices and convolutions have "
            "weights in 16 bits",
            "leave it out: such operators run in fp32",
        )
    if named and not named & _PRODUCTS:
        raise ConfigError(
            f"--mixed-precision-ops {min(named)}: products of matrices have weights in 16 bits too",
            "name nn.dense as well, or leave the option out",
        )
    if named and not named & _CONVOLUTIONS:
        click.echo(
            "Note: --mixed-precision-ops: weights of convolutions are stored in 16 bits too; "
            "--disabled-pass narrow_convolutions leaves them in fp32",
            err=True,
        )
