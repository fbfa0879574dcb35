"""The functions of TVM's former ``tvm.driver.tvmc``: ``from tvm_vacc import tvmc``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_vacc.errors import ConfigError, RequestError
from tvm_vacc.light_tvm import torch_hidden
from tvm_vacc.limits import RPC_TIMEOUT_SECONDS
from tvm_vacc.target import TAG
from tvm_vacc.tvmc._rpc import DEFAULT_PORT
from tvm_vacc.tvmc.commands.compile import compile_command
from tvm_vacc.tvmc.compiling.dumps import read_watch
from tvm_vacc.tvmc.compiling.linking import read_linker_options
from tvm_vacc.tvmc.compiling.model import read_model_options
from tvm_vacc.tvmc.compiling.output import read_output_options
from tvm_vacc.tvmc.compiling.passes import read_build_options
from tvm_vacc.tvmc.compiling.target import read_target, target_of
from tvm_vacc.tvmc.model import TVMCModel
from tvm_vacc.tvmc.package import TVMCPackage
from tvm_vacc.tvmc.result import TVMCResult

if TYPE_CHECKING:
    import numpy as np

    from tvm_vacc.runtime.graph import Graph
    from tvm_vacc.runtime.run_graph import Runnable


def load(
    path: str | Path,
    model_format: str | None = None,
    shape_dict: Mapping[str, Sequence[int]] | None = None,
) -> TVMCModel:
    """Return the model in a file or a checkpoint's directory; it is read when it is compiled.

    Args:
        path: of it.
        model_format: of `tvm_vacc.model_format.FORMATS`; default: as the file looks.
        shape_dict: shapes of inputs of an ONNX graph; -1 leaves a dimension open.

    Raises:
        ConfigError: there is no such file, or its format is not known.
    """
    from tvm_vacc.model_format import check_format, guess_format

    if not Path(path).exists():
        raise ConfigError(f"{path}: no such file or directory", "give the path of a model")
    found = guess_format(path) if model_format is None else check_format(model_format)
    return TVMCModel.of_file(path, found, shape_dict)


def compile(
    tvmc_model: TVMCModel,
    target: str = TAG,
    opt_level: int = 3,
    executor: str | None = "vm",
    runtime: str | None = "cpp",
    package_path: str | Path | None = None,
    cross: str | None = None,
    cross_options: str | None = None,
    output_format: str | None = None,
    dump_code: str | Sequence[str] = (),
    dump_offloads: str = "",
    target_host: str | None = None,
    disabled_pass: str | Sequence[str] = (),
    pass_context_configs: Sequence[str] = (),
    additional_target_options: Mapping[str, Mapping[str, Any]] | None = None,
    mod_name: str | None = None,
    print_pass_times: bool = False,
    print_ir_before: str | Sequence[str] = (),
    print_ir_after: str | Sequence[str] = (),
    mixed_precision: bool = False,
    mixed_precision_ops: Sequence[str] = (),
    mixed_precision_calculation_type: str | None = None,
    mixed_precision_acc_type: str | None = None,
    desired_layout: str | Sequence[str] = (),
    desired_layout_ops: Sequence[str] = (),
    dtype: str | None = None,
    prefill: int | None = None,
    context: int | None = None,
    passport: bool = True,
    tuning_records: str | Path | None = None,
) -> TVMCPackage:
    """Compile a model.

    The arguments are those of the former ``tvmc.compile``, as far as there is something to choose;
    each means what the option of ``tvmc compile`` of its name means, and is refused where that is.

    Args:
        tvmc_model: of `load`, or made of a Relax module.
        target: what for; `target_host` and `additional_target_options` may say more of it.
        package_path: what is written; default: a directory that goes with `tvmc_model`.
        output_format: ``dir``, ``tar``, ``so`` or ``mlf``; default: as `package_path` ends.
        dtype: see ``tvmc compile``; so are `prefill` and `context`.
        passport: whether the accuracy of a language model is measured.
        tuning_records: the directory that `tune` has filled for `target`.

    Raises:
        VaccError: the model cannot be compiled, or an argument cannot be had.
    """
    given: dict[str, Any] = _defaults()
    given |= {
        "target": ", ".join(filter(None, (target, target_host))),
        "opt_level": opt_level,
        "executor": getattr(executor, "name", executor),
        "runtime": getattr(runtime, "name", runtime),
        "output": None if package_path is None else Path(package_path),
        "output_format": output_format,
        "cross_compiler": cross,
        "cross_compiler_options": cross_options,
        "dump_code": _list(dump_code),
        "dump_offloads": dump_offloads or None,
        "disabled_pass": _list(disabled_pass),
        "pass_config": tuple(pass_context_configs),
        "module_name": mod_name,
        "print_pass_times": print_pass_times,
        "print_ir_before": _list(print_ir_before),
        "print_ir_after": _list(print_ir_after),
        "mixed_precision": mixed_precision,
        "mixed_precision_ops": tuple(mixed_precision_ops),
        "mixed_precision_calculation_type": mixed_precision_calculation_type,
        "mixed_precision_acc_type": mixed_precision_acc_type,
        "desired_layout": _list(desired_layout),
        "desired_layout_ops": tuple(desired_layout_ops),
        "dtype": dtype,
        "prefill": prefill,
        "context": context,
        "tuning_records": None if tuning_records is None else Path(tuning_records),
    }
    for kind, options in (additional_target_options or {}).items():
        for name, value in options.items():
            key = f"target_{kind}_{name}".replace("-", "_")
            if key not in given:
                raise ConfigError(
                    f"additional_target_options: {kind} has no {name}", "leave it out"
                )
            given[key] = str(value)
    result = read_output_options(given)
    target = target_of(read_target(given), result.format)
    with torch_hidden():
        from tvm_vacc.tvmc.packages import compile_package

    wanted = read_model_options(given)
    output = result.path(Path(tvmc_model.default_package_path()))
    times: list[str] = []
    path, model_format = tvmc_model.source()
    written, _ = compile_package(
        path,
        output,
        result.format,
        name=result.module_name,
        target=target,
        build=read_build_options(given, target),
        watch=read_watch(given, output, times),
        passport=passport,
        dtype=wanted.dtype,
        prefill=wanted.prefill,
        context=wanted.context,
        input_shapes=tvmc_model.shape_dict,
        model_format=model_format,
        **read_linker_options(given),
    )
    for text in times:
        click.echo(text)
    return TVMCPackage(written, made_of=tvmc_model)


def run(
    tvmc_package: TVMCPackage,
    device: str = "cpu",
    hostname: str | None = None,
    port: int | str = DEFAULT_PORT,
    rpc_key: str | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    repeat: int = 1,
    number: int = 1,
    print_time: bool = True,
    fill_mode: str = "random",
    end_to_end: bool = False,
    rpc_timeout: int = RPC_TIMEOUT_SECONDS,
) -> TVMCResult:
    """Run a graph once for its outputs and, where it is to be timed, over and over.

    Args:
        tvmc_package: of a plain graph.
        device: ``cpu``: there is no other.
        hostname: of a tracker of TVM's RPC, or without `rpc_key` of a server; None: runs here.
        port: of it.
        rpc_key: what the servers that will do call themselves at the tracker.
        inputs: arrays by name; those that are missing are filled.
        repeat: values to measure.
        number: runs in a row that a value is the mean of.
        print_time: whether it is timed; the result says how long it took.
        fill_mode: ``random``, ``zeros`` or ``ones``.
        end_to_end: time the copies of inputs and outputs too.
        rpc_timeout: seconds to wait for a server that is free, and for each of its answers.

    Raises:
        ConfigError: another device, or a language model.
        RequestError: an input is unknown, of another dtype or shape, or has open dimensions and
            no array; or RPC fails, see `tvm_vacc.runtime.remote`.
    """
    if device != "cpu":
        raise ConfigError(f"device {device}: artefacts run on CPUs", "give cpu")
    if rpc_key is not None and hostname is None:
        raise ConfigError("rpc_key: only a tracker knows keys", "give its hostname, too")
    if repeat < 1 or number < 1 or rpc_timeout < 1:
        raise RequestError(
            f"repeat is {repeat}, number is {number}, rpc_timeout is {rpc_timeout}",
            "give 1 or more",
        )
    with torch_hidden():
        from tvm_vacc.runtime.fill import fill_inputs
        from tvm_vacc.runtime.run_graph import run_graph

    with ExitStack() as stack:
        if hostname is None:
            graph: Runnable = _plain_graph(tvmc_package)
        else:
            from tvm_vacc.runtime.remote import open_remote

            path = Path(tvmc_package.package_path)
            graph = stack.enter_context(
                open_remote(path, hostname, int(port), rpc_key, rpc_timeout)
            )
        result = run_graph(
            graph,
            fill_inputs(graph.inputs, inputs or {}, fill_mode, {}),
            timed=print_time,
            repeat=repeat,
            number=number,
            end_to_end=end_to_end,
        )
    return TVMCResult(result.outputs, [seconds * 1e3 for seconds in result.times])


def _plain_graph(package: TVMCPackage) -> Graph:
    """Return what `package` holds. Raises `ConfigError`, where that is a language model."""
    from tvm_vacc.runtime.graph import Graph

    if not isinstance(package.model, Graph):
        raise ConfigError(
            f"{package.package_path}: is a language model", "generate by tvm_vacc.load(path)"
        )
    return package.model


def _defaults() -> dict[str, Any]:
    """Return what the options of ``tvmc compile`` are where none is given."""
    return {
        str(option.name): () if option.multiple else False if option.is_flag else None
        for option in compile_command.params
        if isinstance(option, click.Option)
    }


def _list(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())
