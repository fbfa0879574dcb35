"""The table of a profile: what each kernel takes of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tvm_vacc.tvmc._report import print_table

if TYPE_CHECKING:
    from tvm_vacc.runtime.profile import Profile

COLUMNS = ("kernel", "weight", "calls", "time", "share", "GB/s", "GFLOPS")


def print_profile(profile: Profile) -> None:
    """Print one line a kernel, and how much of the run all of them explain."""
    print_table(
        COLUMNS,
        [
            (
                kernel.name,
                kernel.weight,
                str(kernel.calls),
                f"{kernel.seconds * 1e6:.1f} us",
                f"{kernel.seconds / profile.seconds:.1%}",
                f"{kernel.bytes / kernel.seconds / 1e9:.1f}" if kernel.seconds else "",
                f"{kernel.operations / kernel.seconds / 1e9:.1f}" if kernel.operations else "",
            )
            for kernel in profile.kernels
        ],
    )
    click.echo(
        f"The run takes {profile.seconds * 1e3:.3f} ms; the kernels explain "
        f"{profile.explained:.1%} of it, Python and the virtual machine are the rest."
    )
