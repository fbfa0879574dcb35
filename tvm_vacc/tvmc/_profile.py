"""The table of a profile: what each kernel takes of a run, and what the machine would allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from tvm_vacc.tvmc._report import print_table

if TYPE_CHECKING:
    from tvm_vacc.artifact.manifest import Manifest
    from tvm_vacc.machine.speeds import Speeds
    from tvm_vacc.runtime.profile import KernelProfile, Profile

COLUMNS = ("kernel", "weight", "calls", "time", "share", "GB/s", "GFLOPS", "limit", "of it")


def profile_against_limits(
    measure: Callable[[], Profile], manifest: Manifest, threads: int | None
) -> None:
    """Measure the machine, then a profile, then the machine again, and print what came out.

    Args:
        measure: makes the profile.
        manifest: of the artefact.
        threads: as it is run with.
    """
    from tvm_vacc.machine.limits import Limits
    from tvm_vacc.machine.setup import Setup
    from tvm_vacc.machine.unit import unit_of

    limits = Limits(Setup.make(threads=threads))
    before = limits.measure()
    profile = measure()
    print_profile(profile, before.mean(limits.measure()), unit_of(manifest))


def print_profile(profile: Profile, speeds: Speeds, unit: str) -> None:
    """Print one line a kernel, and what all of them, the virtual machine and Python take.

    Args:
        profile: of one run.
        speeds: what the machine could do meanwhile.
        unit: what matrix products multiply.
    """
    print_table(COLUMNS, [_cells(kernel, profile, speeds, unit) for kernel in profile.kernels])
    parts = {
        "kernels": sum(kernel.seconds for kernel in profile.kernels),
        "the virtual machine": profile.machine,
        "Python": profile.python,
    }
    shares = ", ".join(f"{name} {taken / profile.seconds:.1%}" for name, taken in parts.items())
    click.echo(
        f"The run takes {profile.seconds * 1e3:.3f} ms: {shares}; together {profile.explained:.1%}."
    )
    peaks = ", ".join(f"{name} {peak / 1e9:.0f} GFLOPS" for name, peak in speeds.peaks.items())
    click.echo(
        f"Limits, measured before and after: reading {speeds.read / 1e9:.1f} GB/s, {peaks}. "
        "What the caches hold is read faster than memory."
    )


def _cells(kernel: KernelProfile, profile: Profile, speeds: Speeds, unit: str) -> tuple[str, ...]:
    bound = speeds.bound(kernel.bytes, kernel.operations, unit)
    giga = kernel.seconds * 1e9
    return (
        kernel.name,
        kernel.weight,
        str(kernel.calls),
        f"{kernel.seconds * 1e6:.1f} us",
        f"{kernel.seconds / profile.seconds:.1%}",
        f"{kernel.bytes / giga:.1f}" if giga else "",
        f"{kernel.operations / giga:.1f}" if giga and kernel.operations else "",
        bound.limit,
        f"{bound.seconds / kernel.seconds:.0%}" if giga else "",
    )
