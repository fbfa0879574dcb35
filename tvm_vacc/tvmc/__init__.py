"""TVM's former command line driver on Relax: the `tvmc` command, and its Python API.

::

    from tvm_vacc import tvmc

    model = tvmc.load("resnet.onnx")
    package = tvmc.compile(model, target="tvm_vacc -mcpu=native")
    result = tvmc.run(package, inputs={"x": image})

Each name is imported when it is first used: the command starts without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_vacc.tvmc.api import compile, load, run
    from tvm_vacc.tvmc.model import TVMCModel
    from tvm_vacc.tvmc.package import TVMCPackage
    from tvm_vacc.tvmc.result import TVMCResult
    from tvm_vacc.tvmc.tuning import tune

__all__ = ["TVMCModel", "TVMCPackage", "TVMCResult", "compile", "load", "run", "tune"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tvm_vacc.tvmc import api, tuning

    return tuning.tune if name == "tune" else getattr(api, name)
