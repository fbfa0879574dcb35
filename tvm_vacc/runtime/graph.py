"""A compiled model that maps inputs to outputs and keeps nothing between two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_vacc.artifact.manifest import Manifest, TensorSpec
from tvm_vacc.errors import RequestError
from tvm_vacc.runtime.executable import on_own_cpu
from tvm_vacc.runtime.run_graph import time_runs
from tvm_vacc.runtime.tensors import require_fit, to_numpy, to_tvm
from tvm_vacc.runtime.timed_call import TimedCall


class Graph:
    """A loaded artefact of a plain ONNX model. Make it with `tvm_vacc.load`.

    Attributes:
        path: the artefact's directory.
        manifest: what the artefact says of itself.
        machine: the virtual machine that runs it.
        params: the weights, as the compiled function takes them.
        forward: the compiled function.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        machine: tvm.relax.VirtualMachine,
        weights: list[tvm.runtime.Tensor],
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.machine = machine
        self.forward = TimedCall(machine["forward"])
        self.params = tvm.runtime.convert(weights)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Names, shapes and dtypes of the inputs, in order; a text is a symbolic dimension."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Names, shapes and dtypes of the outputs, in order."""
        return self.manifest.outputs

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs for one set of inputs, by name.

        Raises:
            RequestError: an input is missing, unknown, or of another dtype or shape.
        """
        arguments = [to_tvm(array) for array in in_order(self.inputs, arrays)]
        result = self.call(arguments)
        results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
        return {
            spec.name: to_numpy(tensor) for spec, tensor in zip(self.outputs, results, strict=True)
        }

    def seconds(
        self, arrays: Mapping[str, np.ndarray], *, repeat: int, number: int
    ) -> tuple[float, ...]:
        """Return the seconds of a run without the copies of `arrays` and outputs.

        Args:
            arrays: of all inputs, by name.
            repeat: values to measure.
            number: runs in a row that one value is the mean of.

        Raises:
            RequestError: see `run`.
        """
        arguments = [to_tvm(array) for array in in_order(self.inputs, arrays)]
        return time_runs(lambda: self.call(arguments), repeat, number)

    def call(self, arguments: Sequence[tvm.runtime.Tensor]) -> Any:
        """Run the compiled function on the tensors of all inputs, in order; nothing is checked."""
        with on_own_cpu():
            return self.forward(*arguments, self.params)


def in_order(specs: Sequence[TensorSpec], arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the arrays of all inputs in the order of `specs`.

    Raises:
        RequestError: an input is missing, unknown, or of another dtype or shape.
    """
    if unknown := sorted(set(arrays) - {spec.name for spec in specs}):
        known = ", ".join(spec.name for spec in specs)
        raise RequestError(f"the model has no input {unknown[0]!r}", f"it has: {known}")
    dims: dict[str, int] = {}
    for spec in specs:
        if spec.name not in arrays:
            raise RequestError(f"the input {spec.name!r} is missing", "give an array for it")
        array = arrays[spec.name]
        require_fit(spec, str(array.dtype), array.shape, dims)
    return [arrays[spec.name] for spec in specs]
