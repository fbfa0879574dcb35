"""tvm_vacc: GLM-4 checkpoints and ONNX models, compiled by Apache TVM.

`compile` makes an artefact, `load` runs it. Both are imported when they are first used, so that
``import tvm_vacc`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_vacc.compiler import compile
    from tvm_vacc.runtime.load import load

__all__ = ["__version__", "compile", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "compile":
        from tvm_vacc.compiler import compile

        return compile
    if name == "load":
        from tvm_vacc.runtime.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
