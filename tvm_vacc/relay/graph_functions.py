"""``GraphModule.module``: the executor's functions by name, as scripts before ``benchmark`` did."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tvm
from tvm.runtime.module import BenchmarkResult

from tvm_vacc.errors import RequestError

if TYPE_CHECKING:
    from tvm_vacc.relay.graph_executor import GraphModule

_NAMES = (
    *("set_input", "run", "get_input", "get_output", "get_num_inputs", "get_num_outputs"),
    *("get_input_index", "get_output_index", "load_params"),
)


class GraphFunctions:
    """The functions of an executor.

    Args:
        executor: whose.
    """

    def __init__(self, executor: GraphModule) -> None:
        self._executor = executor

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """Return the function `name`. Raises `RequestError`, where there is none."""
        if name not in _NAMES:
            raise RequestError(f"the executor has no function {name!r}", ", ".join(_NAMES))
        function: Callable[..., Any] = getattr(self._executor, name)
        return function

    def time_evaluator(
        self,
        func_name: str,
        dev: tvm.runtime.Device,
        number: int = 10,
        repeat: int = 1,
        min_repeat_ms: int = 0,
        **options: Any,
    ) -> Callable[[], BenchmarkResult]:
        """Return a function that times the model; arguments: `GraphModule.benchmark`."""
        return lambda: self._executor.benchmark(
            dev, func_name, repeat, number, min_repeat_ms, **options
        )
