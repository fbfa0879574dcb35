"""What a run gave: `TVMCResult` of the Python API."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_COLUMNS = ("mean (ms)", "median (ms)", "max (ms)", "min (ms)", "std (ms)")


class TVMCResult:
    """Outputs of a model, and how long it took.

    Attributes:
        outputs: arrays by name.
        times: milliseconds of one run, one value a repetition; empty where it was not timed.
    """

    def __init__(self, outputs: Mapping[str, np.ndarray], times: Sequence[float] = ()) -> None:
        self.outputs = dict(outputs)
        self.times = list(times)

    def get_output(self, name: str) -> np.ndarray:
        """Return an output by its name."""
        return self.outputs[name]

    def save(self, output_path: str) -> None:
        """Write the outputs to an .npz file."""
        import numpy as np

        with open(output_path, "wb") as stream:  # given a name, numpy would append .npz to it
            np.savez(stream, **self.outputs)  # type: ignore[arg-type]

    def format_times(self) -> str:
        """Return the times as a table of two lines; empty where there are none."""
        if not self.times:
            return ""
        spread = statistics.pstdev(self.times)
        figures = (
            *(statistics.fmean(self.times), statistics.median(self.times)),
            *(max(self.times), min(self.times), spread),
        )
        head = " ".join(f"{name:^12}" for name in _COLUMNS)
        return f"Execution time summary:\n{head}\n{' '.join(f'{f:^12.4f}' for f in figures)}"

    def __str__(self) -> str:
        shapes = ", ".join(f"{name}: {list(a.shape)}" for name, a in self.outputs.items())
        return "\n".join(filter(None, (self.format_times(), f"Output Names:\n [{shapes}]")))
