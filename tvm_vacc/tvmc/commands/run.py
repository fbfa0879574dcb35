"""`tvmc run`: a plain graph on arrays from a file."""

from __future__ import annotations

import statistics
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tvm_vacc.errors import ConfigError
from tvm_vacc.tvmc._options import artefact_argument, threads_option

if TYPE_CHECKING:
    import numpy as np


@click.command()
@artefact_argument
@click.option(
    "--inputs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="An .npz file with one array an input.",
)
@click.option(
    "--outputs",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The .npz file to write the outputs to.",
)
@click.option("--print-time", is_flag=True, help="Print how long a run takes.")
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Run so often, after one run to warm up; for --print-time and --profile.",
)
@click.option("--profile", is_flag=True, help="Show what each kernel takes of a run.")
@threads_option
def run(
    artefact: Path,
    inputs: Path,
    outputs: Path | None,
    print_time: bool,
    repeat: int,
    profile: bool,
    threads: int | None,
) -> None:
    """Run a model that is no language model.

    \b
    Example:
      tvmc run resnet --inputs image.npz --outputs scores.npz --print-time --repeat 10
    """
    arrays = read_npz(inputs)

    from tvm_vacc.tvmc._load import load_graph

    graph = load_graph(artefact, threads)
    results = graph.run(arrays)
    if print_time:
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            graph.run(arrays)
            times.append((time.perf_counter() - start) * 1e3)
        click.echo(
            f"mean {statistics.fmean(times):.3f} ms, median {statistics.median(times):.3f} ms, "
            f"min {min(times):.3f} ms, max {max(times):.3f} ms of {repeat} runs"
        )
    if profile:
        from tvm_vacc.runtime.profile import profile_graph
        from tvm_vacc.tvmc._profile import print_profile

        print_profile(profile_graph(graph, arrays, rounds=repeat))
    if outputs is not None:
        write_npz(outputs, results)
    for name, array in results.items():
        click.echo(f"{name} {array.dtype} {list(array.shape)}")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file; pickled ones are refused.

    Raises:
        ConfigError: it is none, or damaged.
    """
    import numpy as np

    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ConfigError(f"{path}: is no .npz file", "write it by numpy.savez")
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{path}: cannot be read as an .npz file ({reason})", "write it by numpy.savez"
        ) from None


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays` to `path`, whatever its suffix is.

    Raises:
        OSError: it cannot be written.
    """
    import numpy as np

    with path.open("wb") as stream:  # given a name, numpy would append .npz to it
        np.savez(stream, **arrays)  # type: ignore[arg-type]
