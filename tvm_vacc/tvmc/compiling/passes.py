"""How passes run, and their IR and times on the screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_vacc.tvmc._sections import section, split_list

if TYPE_CHECKING:
    from tvm_vacc.codegen.options import BuildOptions

option = section("Passes")


def pass_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of this group to a command."""
    for each in reversed(_OPTIONS):
        command = each(command)
    return command


_OPTIONS = (
    option(
        "-O",
        "--opt-level",
        type=click.IntRange(0, 3),
        default=3,
        show_default=True,
        help="0 leaves out the fusions that a model can do without.",
    ),
    option(
        "--pass-config",
        metavar="NAME=VALUE",
        multiple=True,
        help="A key of TVM's pass context, such as tirx.disable_vectorize=true; repeatable.",
    ),
    option(
        "--disabled-pass",
        metavar="PASS,...",
        multiple=True,
        help="Leave passes out: ours that a model can do without, or TVM's.",
    ),
    option(
        "--print-ir-before",
        metavar="PASS,...",
        multiple=True,
        help="Print the module before these passes, ours or TVM's.",
    ),
    option(
        "--print-ir-after",
        metavar="PASS,...",
        multiple=True,
        help="Print the module after these passes.",
    ),
    option(
        "--tuning-records",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIRECTORY",
        help="Schedule kernels as tvmc tune has found best for this target.",
    ),
    option("--print-pass-times", is_flag=True, help="Print what each of TVM's passes took."),
)


def read_build_options(given: dict[str, Any], target: str) -> BuildOptions:
    """Take the options that change code for `target` out of `given`.

    Raises:
        ConfigError: see `parse_pass_config` and `TuningRecords.open`.
    """
    from tvm_vacc.codegen.options import BuildOptions
    from tvm_vacc.codegen.pass_config import parse_pass_config
    from tvm_vacc.target_string import make_target
    from tvm_vacc.tuning_records import TuningRecords

    records = given.pop("tuning_records")
    return BuildOptions(
        opt_level=given.pop("opt_level"),
        disabled=split_list(given.pop("disabled_pass")),
        pass_config=parse_pass_config(given.pop("pass_config")),
        tuning=TuningRecords.open(records, make_target(target)) if records else None,
    )
