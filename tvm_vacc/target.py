"""The ``tvm_vacc`` target tag, and the pipeline that a build for it runs.

``import tvm`` calls `autoload` through the entry-point group ``tvm.backends``. TVM takes no new
target kind from Python, so ``tvm_vacc`` is a tag over the kind ``llvm``, recognised everywhere by
``"tvm_vacc" in target.keys``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tvm

    from tvm_vacc.artifact.processor import Processor

TAG = "tvm_vacc"
C_TAG = "tvm_vacc/c"
"""C99 sources in place of machine code: `tvm_vacc.codegen_c`."""

CONFIG: dict[str, Any] = {"kind": "llvm", "tag": TAG, "keys": [TAG, "cpu"]}
"""The tag's meaning. It names itself, or printing and reparsing a target would lose it."""


def autoload() -> None:
    """Register the tag and the build pipeline; called at the end of ``import tvm``.

    This module imports no TVM at its top: when a user imports the plugin first, TVM loads it again
    from its own initialisation and must find this function defined. Repeated calls change nothing.
    """
    import tvm_ffi
    from tvm.relax import pipeline
    from tvm.target import Target, register_tag

    if TAG in pipeline.PIPELINE_MAP:
        return
    register_tag(TAG, CONFIG)
    register_tag(C_TAG, {**CONFIG, "kind": "c", "tag": C_TAG})
    _register_opener()
    stock = pipeline.PIPELINE_MAP["default"]

    def dispatch() -> tvm.transform.Pass:
        # `relax.build` looks a pipeline up by name before it enters the target, so the choice is
        # made when the pipeline runs.
        import tvm

        @tvm.transform.module_pass(opt_level=0, name="tvm_vacc.dispatch")
        def run(module: tvm.ir.IRModule, _context: tvm.transform.PassContext) -> tvm.ir.IRModule:
            return (vacc_pipeline() if is_vacc(Target.current()) else stock())(module)

        return run

    def external(*arguments: Any) -> list[tvm.runtime.Module]:
        from tvm_vacc.codegen.byoc import compile_functions

        return compile_functions(*arguments)

    tvm_ffi.register_global_func(f"relax.ext.{TAG}", external)
    pipeline.PIPELINE_MAP["default"] = dispatch
    pipeline.register_pipeline(TAG)(vacc_pipeline)


def _register_opener() -> None:
    """Register what the entry of a library of ours calls: ``load_module(path)["default"](device)``.

    See `tvm_vacc.runtime.library`, which is imported when the first library is opened.
    """
    import tvm_ffi

    def open_library(*arguments: Any) -> Any:
        from tvm_vacc.runtime.library import open_on

        return open_on(*arguments)

    tvm_ffi.register_global_func("tvm_vacc.relay.open_library", open_library, override=True)


def is_vacc(target: tvm.target.Target | None) -> bool:
    """Tell whether `target` is ours, whatever options were added to the tag."""
    return target is not None and TAG in target.keys


def emits_c(target: tvm.target.Target) -> bool:
    """Tell whether `target` asks for C sources."""
    return is_vacc(target) and target.kind.name == "c"


def triple_of(target: tvm.target.Target) -> str:
    """Return the triple that LLVM compiles `target` for: this machine's where it names none."""
    from tvm.target.codegen import llvm_get_system_triple

    return str(target.attrs.get("mtriple", llvm_get_system_triple()))


def processor_of(target: tvm.target.Target) -> Processor | None:
    """Return what code for `target` needs to run, by LLVM's tables; None for C sources."""
    from tvm.target.codegen import llvm_get_cpu_features

    from tvm_vacc.artifact.processor import Processor

    if emits_c(target):
        return None
    return Processor.of(triple_of(target), map(str, llvm_get_cpu_features(target)))


def vacc_pipeline() -> tvm.transform.Pass:
    """Return the pipeline from Relax to VM bytecode and scheduled TIR."""
    from tvm_vacc.codegen.pipeline import build_passes

    return build_passes()
