"""Writes a compiled module as C sources that any C99 toolchain builds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import tvm
from tvm import relax

from tvm_vacc.codegen_c.graph import Graph, GraphPrinter
from tvm_vacc.codegen_c.kernel import Kernel, print_kernel
from tvm_vacc.codegen_c.lower import lower_kernels
from tvm_vacc.codegen_c.run_header import RUN_HEADER, run_header
from tvm_vacc.codegen_c.signature import Signature
from tvm_vacc.codegen_c.vectors import VectorFunctions
from tvm_vacc.ops._registry import OPERATOR_ATTRIBUTE

RUNTIME_FILES = ("vacc.h", "vacc_lanes.h", "vacc.c")
ENTRY = "forward"
"""The function of a plain graph."""

OTHER_FAMILY = "other"
"""Kernels that TVM made of operators that are not ours."""

_PREFIX = "vacc_"


@dataclass(frozen=True)
class Package:
    """A printed module.

    Attributes:
        files: their texts, by name.
        signatures: of the Relax functions, by name in the module.
    """

    files: dict[str, str]
    signatures: dict[str, Signature]


def print_package(module: tvm.ir.IRModule) -> Package:
    """Print a module to files.

    `RUNTIME_FILES` are the same for every model; ``vacc_vectors.h`` lists the vector types it
    needs, ``vacc_kernels.h`` the kernels, ``kernels_<family>.c`` holds those of an operator,
    ``vacc_model.h`` and ``vacc_model.c`` the functions that call them, and ``vacc_run.h`` what an
    example program must know of a graph that has one function.

    Args:
        module: scheduled, with its memory planned (`tvm_vacc.codegen.pipeline.planned`).

    Raises:
        TargetError: a kernel or the graph holds something that has no form in C.
    """
    vectors = VectorFunctions()
    families: dict[str, str] = {}
    kernels: dict[str, Kernel] = {}
    for gvar, function in sorted(
        lower_kernels(module).functions_items(), key=lambda item: str(item[0].name_hint)
    ):
        name = str(gvar.name_hint)
        kernels[name] = print_kernel(_PREFIX + name, function, vectors)
        families[name] = str((function.attrs or {}).get(OPERATOR_ATTRIBUTE, OTHER_FAMILY))
    graphs = {
        str(gvar.name_hint): GraphPrinter(_PREFIX + str(gvar.name_hint), function, kernels).print()
        for gvar, function in sorted(
            module.functions_items(), key=lambda item: str(item[0].name_hint)
        )
        if isinstance(function, relax.Function)
    }
    called = dict.fromkeys(name for graph in graphs.values() for name in graph.kernels)
    runtime = files("tvm_vacc.codegen_c") / "runtime"
    sources = {name: (runtime / name).read_text("utf-8") for name in RUNTIME_FILES}
    sources["vacc_vectors.h"] = vectors.header()
    sources["vacc_kernels.h"] = _header(
        "VACC_KERNELS_H", "vacc.h", [kernels[name].prototype for name in called]
    )
    for family in sorted({families[name] for name in called}):
        texts = [kernels[name].text for name in called if families[name] == family]
        sources[f"kernels_{family}.c"] = "\n".join(
            ['#include "vacc_kernels.h"\n#include "vacc_vectors.h"\n', *texts]
        )
    sources.update(_model(list(graphs.values())))
    signatures = {name: graph.signature for name, graph in graphs.items()}
    if list(signatures) == [ENTRY]:
        sources[RUN_HEADER] = run_header(signatures[ENTRY])
    return Package(sources, signatures)


def write_sources(module: tvm.ir.IRModule, directory: Path) -> tuple[str, ...]:
    """Write the files of `print_package` to `directory` and return their names."""
    sources = print_package(module).files
    for name, text in sources.items():
        (directory / name).write_text(text, "utf-8")
    return tuple(sources)


def _model(graphs: list[Graph]) -> dict[str, str]:
    return {
        "vacc_model.h": _header(
            "VACC_MODEL_H",
            "vacc.h",
            [graph.signature.declarations() for graph in graphs],
            is_public=True,
        ),
        "vacc_model.c": "\n".join(
            [
                '#include "vacc_model.h"\n\n#include "vacc_kernels.h"\n',
                *(graph.text for graph in graphs),
            ]
        ),
    }


def _header(guard: str, include: str, parts: list[str], *, is_public: bool = False) -> str:
    body = "\n".join(parts)
    if is_public:
        body = (
            f'#ifdef __cplusplus\nextern "C" {{\n#endif\n\n{body}\n#ifdef __cplusplus\n}}\n#endif\n'
        )
    return f'#ifndef {guard}\n#define {guard}\n\n#include "{include}"\n\n{body}\n#endif\n'
