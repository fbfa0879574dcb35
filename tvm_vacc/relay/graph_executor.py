"""``graph_executor.GraphModule`` on Relax's virtual machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm.runtime.module import BenchmarkResult

from relay_passes.bundle_params import ENTRY
from tvm_vacc.artifact.manifest import TensorSpec
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import ConfigError, RequestError
from tvm_vacc.relay import explain
from tvm_vacc.relay.graph_functions import GraphFunctions
from tvm_vacc.relay.timing import time_calls
from tvm_vacc.runtime.executable import on_own_cpu
from tvm_vacc.runtime.library import OpenedLibrary, check_device, open_on
from tvm_vacc.runtime.tensors import require_fit, to_numpy, to_tvm

_INSTEAD = {
    "set_input_zero_copy": "set_input",
    "set_output_zero_copy": "get_output(index, out)",
    "share_params": "load_params",
    "debug_get_output": "partition_for_tvm_vacc, which shows the operators, and get_output",
}
_MAIN_PARAMS = 'mod["main"].params'
_NO_WEIGHTS = "call load_params(relay.save_param_dict(params)) or set_input(**params) first"


def create(
    graph_json_str: str, libmod: tvm.runtime.Module, device: tvm.runtime.Device
) -> GraphModule:
    """Return an executor of a graph and a library: two of the three that `relay.build` unpacks to.

    The third, the weights, is loaded by `GraphModule.load_params`.

    Raises:
        ConfigError: the graph was not made by `relay.build`, or the device is no CPU.
    """
    return GraphModule(open_on(graph_json_str, libmod, device))


class GraphModule:
    """Holds inputs and outputs of a built model between calls.

    Inputs count from zero in the order of the model; the weights come after them. An input of a
    known shape that has never been set is zeros.

    Args:
        module: what ``lib["default"](device)`` has returned.
    """

    def __init__(self, module: OpenedLibrary) -> None:
        if not isinstance(module, OpenedLibrary):
            raise ConfigError(
                f"GraphModule takes what lib['default'](device) returns, not {type(module)}",
                "write GraphModule(lib['default'](tvm.cpu()))",
            )
        self._signature = module.signature
        self._machine = module.machine
        self._forward = module.machine[ENTRY]
        self._slots = {tensor.name: tensor for tensor in self._signature.inputs}
        self._slots |= {tensor.name: tensor for tensor in self._signature.params}
        names = [tensor.name for tensor in self._signature.params]
        self._tensors = dict(zip(names, module.weights, strict=False))
        self._bundle: tvm.runtime.Object | None = None
        self._outputs: list[tvm.runtime.Tensor] | None = None
        explain.lines("vm = relax.VirtualMachine(executable, tvm.cpu())", "inputs = {}")

    def __getattr__(self, name: str) -> Any:
        cure = f"; use {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise AttributeError(f"GraphModule.{name} is not brought back by tvm_vacc{cure}", name=name)

    @property
    def module(self) -> GraphFunctions:
        """The functions of this executor by name, and ``time_evaluator``."""
        return GraphFunctions(self)

    def set_input(self, key: str | int | None = None, value: Any = None, **params: Any) -> None:
        """Set inputs.

        Args:
            key: name or index of one.
            value: an array or tensor; NumPy arrays are converted to the input's dtype.
            params: any number of others by name. Names of parameters that `relay.build` has bound
                are passed over: their values are in the library.

        Raises:
            RequestError: there is no such input, or the shape does not fit.
        """
        if key is not None:
            self._set(self._name(key), value)
        for name, each in params.items():
            if name not in self._signature.bound:
                self._set(self._name(name), each)

    def run(self, **input_dict: Any) -> None:
        """Run the model, having set the inputs in `input_dict`.

        Raises:
            RequestError: an input of a symbolic shape has not been set, two inputs disagree on a
                symbolic dimension, or there are no weights.
        """
        self.set_input(**input_dict)
        arguments = self._arguments()
        with on_own_cpu():
            result = self._forward(*arguments)
        self._outputs = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
        names = ", ".join(f'inputs["{tensor.name}"]' for tensor in self._signature.inputs)
        explain.lines(f'outputs = vm["main"]({names})')

    def get_num_inputs(self) -> int:
        """Return how many inputs there are, weights included."""
        explain.lines(f"num_inputs = len({_MAIN_PARAMS})")
        return len(self._slots)

    def get_num_outputs(self) -> int:
        """Return how many outputs there are."""
        count = len(self._signature.outputs)
        fields = 'len(mod["main"].ret_ty.fields)' if count > 1 else 1
        explain.lines(f"num_outputs = {fields}")
        return count

    def get_input_index(self, name: str) -> int:
        """Return the index of an input; -1 where there is none of the name."""
        names = f"[param.name for param in {_MAIN_PARAMS}]"
        explain.lines(f"input_index = {{n: i for i, n in enumerate({names})}}.get({name!r}, -1)")
        return list(self._slots).index(name) if name in self._slots else -1

    def get_output_index(self, name: str) -> int:
        """Return the index of an output; -1 where there is none of the name."""
        names = [tensor.name for tensor in self._signature.outputs]
        index = names.index(name) if name in names else -1
        explain.lines(f"output_index = {index}  # Relax gives outputs no names")
        return index

    def get_input_info(self) -> tuple[dict[str, tuple[int | str, ...]], dict[str, str]]:
        """Return shapes and dtypes of the inputs by name, weights left out."""
        inputs = self._signature.inputs
        explain.lines(f"input_types = {{param.name: param.ty for param in {_MAIN_PARAMS}}}")
        return {t.name: t.shape for t in inputs}, {t.name: t.dtype for t in inputs}

    def get_input(
        self, index: int | str, out: tvm.runtime.Tensor | None = None
    ) -> tvm.runtime.Tensor:
        """Return an input by index or name, copied to `out` where that is given."""
        name = self._name(index)
        explain.lines(f'given = inputs.get("{name}")')
        return _copied(self._tensor(name), out)

    def get_output(self, index: int, out: tvm.runtime.Tensor | None = None) -> tvm.runtime.Tensor:
        """Return an output of the last run, copied to `out` where that is given.

        Raises:
            RequestError: there was no run, or there is no such output.
        """
        if self._outputs is None:
            raise RequestError("there are no outputs yet", "call run() first")
        if not 0 <= index < len(self._outputs):
            raise RequestError(f"there is no output {index}", f"there are {len(self._outputs)}")
        chosen = "outputs" if len(self._outputs) == 1 else f"outputs[{index}]"
        explain.lines(f"output_{index} = {chosen}")
        return _copied(self._outputs[index], out)

    def load_params(self, params_bytes: bytes | bytearray) -> None:
        """Set the weights from what `relay.save_param_dict` has made of ``get_params()``.

        Raises:
            RequestError: they do not fit this model, or are no saved weights.
        """
        try:
            params = tvm.runtime.load_param_dict(bytearray(params_bytes))
        except RuntimeError as error:
            raise RequestError(
                "load_params: these bytes are no saved weights", "use relay.save_param_dict"
            ) from error
        self.set_input(**dict(params.items()))

    def benchmark(
        self,
        device: tvm.runtime.Device,
        func_name: str = "run",
        repeat: int = 5,
        number: int = 5,
        min_repeat_ms: int | None = None,
        limit_zero_time_iterations: int = 100,
        end_to_end: bool = False,
        cooldown_interval_ms: int = 0,
        repeats_to_cooldown: int = 1,
        **kwargs: Any,
    ) -> BenchmarkResult:
        """Time the model.

        Args:
            device: the CPU.
            func_name: only ``run``.
            repeat: measurements.
            number: runs in each; a measurement is their mean.
            min_repeat_ms: milliseconds that a measurement lasts at least, by more runs.
            limit_zero_time_iterations: accepted: no run takes no time on a CPU.
            end_to_end: count copying inputs in and outputs out as well.
            cooldown_interval_ms: pause between measurements.
            repeats_to_cooldown: measurements between two pauses.
            kwargs: inputs, as `set_input` takes them.

        Returns:
            ``mean``, ``median``, ``min``, ``max``, ``std`` and ``results``, all in seconds.

        Raises:
            RequestError: as `run`; or another `func_name`.
            ConfigError: the device is no CPU.
        """
        check_device(device)
        if func_name != "run":
            raise RequestError(f"func_name is {func_name!r}", "only run can be timed")
        self.set_input(**kwargs)
        arguments = self._arguments()
        names = ", ".join(f'inputs["{tensor.name}"]' for tensor in self._signature.inputs)
        explain.lines(
            f'timing = vm.time_evaluator("main", tvm.cpu(), number={number}, '
            f"repeat={repeat})({names})"
        )
        if end_to_end:
            host = [to_numpy(self._tensor(t.name)) for t in self._signature.inputs]
            names_of = [tensor.name for tensor in self._signature.inputs]

            def whole() -> None:
                self.run(**dict(zip(names_of, host, strict=True)))
                for tensor in self._outputs or ():
                    to_numpy(tensor)

            return time_calls(whole, repeat, number, min_repeat_ms or 0)
        evaluate = self._machine.time_evaluator(
            ENTRY,
            device,
            number=number,
            repeat=repeat,
            min_repeat_ms=min_repeat_ms or 0,
            cooldown_interval_ms=cooldown_interval_ms,
            repeats_to_cooldown=repeats_to_cooldown,
        )
        with on_own_cpu():
            return evaluate(*arguments)

    def _name(self, key: str | int) -> str:
        if isinstance(key, int) and 0 <= key < len(self._slots):
            return list(self._slots)[key]
        if key not in self._slots:
            names = ", ".join(tensor.name for tensor in self._signature.inputs)
            raise RequestError(f"the model has no input {key!r}", f"its inputs: {names}")
        return str(key)

    def _set(self, name: str, value: Any) -> None:
        slot = self._slots[name]
        if isinstance(value, tvm.runtime.Tensor):
            array = to_numpy(value)
        else:
            array = np.asarray(value)
            if str(array.dtype) != slot.dtype:
                array = array.astype(_numpy_dtype(slot))
        require_fit(slot, str(array.dtype), array.shape, {})
        self._tensors[name] = to_tvm(array)
        self._bundle = None
        explain.lines(f'inputs["{name}"] = tvm.runtime.tensor(data["{name}"])')

    def _tensor(self, name: str) -> tvm.runtime.Tensor:
        if name not in self._tensors:
            slot = self._slots[name]
            if slot in self._signature.params:
                raise RequestError("the model has no weights yet", _NO_WEIGHTS)
            if any(isinstance(dim, str) for dim in slot.shape):
                raise RequestError(f"the input {name!r} has not been set", "call set_input")
            self._tensors[name] = to_tvm(np.zeros(tuple(map(int, slot.shape)), _numpy_dtype(slot)))
        return self._tensors[name]

    def _arguments(self) -> list[Any]:
        dims: dict[str, int] = {}
        for slot in self._signature.inputs:
            tensor = self._tensor(slot.name)
            require_fit(slot, str(tensor.dtype), tensor.shape, dims)
        if self._bundle is None:
            weights = [self._tensor(slot.name) for slot in self._signature.params]
            self._bundle = tvm.runtime.convert(weights)
        return [*(self._tensor(slot.name) for slot in self._signature.inputs), self._bundle]


def _numpy_dtype(slot: TensorSpec) -> np.dtype:
    return NUMPY_DTYPES.get(slot.dtype) or np.dtype(slot.dtype)


def _copied(tensor: tvm.runtime.Tensor, out: tvm.runtime.Tensor | None) -> tvm.runtime.Tensor:
    return tensor if out is None else tensor.copyto(out)
