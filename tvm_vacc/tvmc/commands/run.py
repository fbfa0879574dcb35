"""`tvmc run`: a plain graph on arrays from a file, or on made ones."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tvm_vacc.errors import ConfigError
from tvm_vacc.tvmc._options import artefact_argument, threads_option
from tvm_vacc.tvmc._outcome import print_time_summary, print_top_values
from tvm_vacc.tvmc._rpc import parse_place, remote_graph, rpc_options
from tvm_vacc.tvmc.compiling.model import parse_shapes

if TYPE_CHECKING:
    import numpy as np

    from tvm_vacc.runtime.run_graph import Runnable

DEVICES = ("cpu", "cuda", "gpu", "cl", "metal", "vulkan", "rocm", "micro")
"""What tvmc knew; one of them is left."""


@click.command()
@artefact_argument
@click.option(
    "-i",
    "--inputs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An .npz file of arrays by the names of inputs; the others are filled.",
)
@click.option(
    "-o",
    "--outputs",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The .npz file to write the outputs to.",
)
@click.option(
    "--fill-mode",
    type=click.Choice(["random", "zeros", "ones"]),
    default="random",
    show_default=True,
    help="What inputs that no array is given for hold; random is the same every time.",
)
@click.option(
    "--input-shapes",
    metavar="SHAPES",
    help='Shapes of filled inputs, where the model leaves dimensions open: "x:[1,3,224,224]".',
)
@click.option("--print-time", is_flag=True, help="Print how long a run takes.")
@click.option(
    "--print-top",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print the N largest values of each output and where they stand.",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Show what each kernel takes of a run, and its part of what the machine can do.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Times to measure, after one run to warm up; for --print-time and --profile.",
)
@click.option(
    "--number",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs in a row that one time of --print-time is the mean of.",
)
@click.option(
    "--end-to-end",
    is_flag=True,
    help="Let --print-time count the copies of inputs and outputs too; over RPC, their way.",
)
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="cpu",
    show_default=True,
    help="Artefacts run on CPUs; the other names are refused.",
)
@rpc_options
@threads_option
def run(
    artefact: Path,
    inputs: Path | None,
    outputs: Path | None,
    fill_mode: str,
    input_shapes: str | None,
    print_time: bool,
    print_top: int | None,
    profile: bool,
    repeat: int,
    number: int,
    end_to_end: bool,
    device: str,
    rpc_tracker: str | None,
    rpc_key: str | None,
    rpc_timeout: int,
    threads: int | None,
) -> None:
    """Run a model that is no language model.

    \b
    Examples:
      tvmc run resnet -i image.npz -o scores.npz --print-top 5
      tvmc run resnet --fill-mode ones --print-time --repeat 10 --number 3
      tvmc run resnet --profile --repeat 10
      tvmc run resnet --rpc-tracker board:9190 --rpc-key cortex-a72 --print-time
    """
    _check(device, rpc_tracker, rpc_key, profile, threads)
    given = read_npz(inputs) if inputs is not None else {}
    shapes = parse_shapes(input_shapes) if input_shapes is not None else {}

    with ExitStack() as stack:
        if rpc_tracker is None:
            from tvm_vacc.tvmc._load import load_graph

            local = load_graph(artefact, threads, compiler=profile)
            graph: Runnable = local
        else:
            place = parse_place(rpc_tracker)
            graph = stack.enter_context(remote_graph(artefact, *place, rpc_key, rpc_timeout))

        from tvm_vacc.runtime.fill import fill_inputs
        from tvm_vacc.runtime.run_graph import run_graph

        arrays = fill_inputs(graph.inputs, given, fill_mode, shapes)
        result = run_graph(
            graph, arrays, timed=print_time, repeat=repeat, number=number, end_to_end=end_to_end
        )
    if print_time:
        print_time_summary(result.times, number)
    if profile:
        from tvm_vacc.runtime.profile import profile_graph
        from tvm_vacc.tvmc._profile import profile_against_limits

        profile_against_limits(
            lambda: profile_graph(local, arrays, rounds=repeat), local.manifest, threads
        )
    if outputs is not None:
        write_npz(outputs, result.outputs)
    for name, array in result.outputs.items():
        click.echo(f"{name} {array.dtype} {list(array.shape)}")
        if print_top is not None:
            print_top_values(array, print_top)


def _check(
    device: str, tracker: str | None, key: str | None, profile: bool, threads: int | None
) -> None:
    """Refuse what cannot be, before anything is read. Raises `ConfigError`."""
    if device != "cpu":
        raise ConfigError(f"--device {device}: artefacts run on CPUs", "leave it out")
    if tracker is None:
        if key is not None:
            raise ConfigError("--rpc-key: only a tracker knows keys", "give --rpc-tracker, too")
        return
    parse_place(tracker)
    if profile:
        raise ConfigError(
            "--profile looks into this process, --rpc-tracker runs in another",
            "profile the artefact on that machine, or use --print-time",
        )
    if threads is not None:
        raise ConfigError(
            "--threads is for this machine, --rpc-tracker runs on another",
            "set TVM_NUM_THREADS where the server is started",
        )


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file; pickled ones are refused.

    Raises:
        ConfigError: it is none, or damaged.
    """
    import zipfile

    import numpy as np

    try:
        if not zipfile.is_zipfile(path):  # NumPy would tell of pickles, and how to load them
            raise ConfigError(f"{path}: is no .npz file", "write it by numpy.savez")
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
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
