"""What is to be seen of a compile: IR, times, code in readable forms, who computes what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_vacc.tvmc._sections import section, split_list

if TYPE_CHECKING:
    from tvm_vacc.codegen.options import BuildWatch

option = section("To look at")


def dump_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of this group to a command."""
    for each in reversed(_OPTIONS):
        command = each(command)
    return command


_OPTIONS = (
    option(
        "--dump-code",
        metavar="FORM,...",
        multiple=True,
        help="Write code beside the output, as OUTPUT.FORM: relax (the graph after our passes), "
        "tir (scheduled kernels), ll, asm, c (a directory of C99 sources).",
    ),
    option(
        "--dump-offloads",
        metavar="-|FILE",
        help="Write which operators run on our kernels and which on stock TVM's; - prints it.",
    ),
    option("--explain", is_flag=True, help="Say of each piece why it was made or reused."),
    option("--dry-run", is_flag=True, help="Check everything and show the plan; write nothing."),
    option("-v", "--verbose", count=True, help="Show the plan before compiling."),
)


def read_watch(given: dict[str, Any], output: Path, times: list[str]) -> BuildWatch:
    """Take the options that show something of a build out of `given`.

    Args:
        given: all options.
        output: what is written; code stands beside it.
        times: takes the times of passes, to be printed at the end.
    """
    from tvm_vacc.codegen.options import BuildWatch

    offloads = given.pop("dump_offloads")

    def dump(form: str, text: str) -> None:
        path = output.parent / f"{output.name}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def tell(text: str) -> None:
        if offloads == "-":
            click.echo(text)
        else:
            Path(offloads).write_text(text + "\n", "utf-8")

    return BuildWatch(
        print_before=split_list(given.pop("print_ir_before")),
        print_after=split_list(given.pop("print_ir_after")),
        show=click.echo,
        times=times.append if given.pop("print_pass_times") else None,
        formats=split_list(given.pop("dump_code")),
        dump=dump,
        offloads=tell if offloads else None,
    )
