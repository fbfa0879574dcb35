from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.target.codegen import llvm_get_system_triple

from tvm_vacc import ops
from tvm_vacc.artifact.kernel_files import BYTECODE, KERNELS_IR, SHARED_LIBRARY
from tvm_vacc.codegen import kernels
from tvm_vacc.codegen.linker import NONE, find_linker
from tvm_vacc.errors import ArtifactError
from tvm_vacc.runtime.executable import load_executable
from tvm_vacc.target import autoload

TRIPLE = str(llvm_get_system_triple())


def norm_module() -> tvm.ir.IRModule:
    x = relax.Var("x", relax.TensorType((2, 17), "float32"))
    weight = relax.Var("w", relax.TensorType((17,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, weight]):
        with builder.dataflow():
            out = builder.emit_output(ops.rms_norm(x, weight, eps=1e-5))
        builder.emit_func_output(out)
    return builder.get()


@pytest.fixture(scope="module")
def executable() -> tvm.runtime.Executable:
    autoload()
    return kernels.build_kernels(norm_module(), tvm.target.Target("tvm_vacc"))


@pytest.mark.parametrize("with_compiler", [True, False])
def test_both_forms_load_and_compute_the_same(
    executable: tvm.runtime.Executable,
    tmp_path: Path,
    with_compiler: bool,
) -> None:
    linker = find_linker(TRIPLE, None if with_compiler else NONE)
    names = kernels.store_kernels(executable, tmp_path, linker)
    assert names == ((SHARED_LIBRARY,) if with_compiler else (BYTECODE, KERNELS_IR))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 17), dtype=np.float32)
    weight = rng.standard_normal(17, dtype=np.float32)
    machine = load_executable(tmp_path)
    got = machine["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(weight)).numpy()
    np.testing.assert_allclose(got, ops.rms_norm.reference(x, weight, 1e-5), rtol=1e-6)


@pytest.mark.parametrize("damage", [b"", b"no machine code"])
def test_what_cannot_be_loaded_is_one_line(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / SHARED_LIBRARY).write_bytes(damage)
    with pytest.raises(ArtifactError, match="cannot be loaded") as caught:
        load_executable(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load_executable(tmp_path / "nowhere")


def test_kernels_that_replace_loaded_ones_are_the_new_ones(tmp_path: Path) -> None:
    """A notebook compiles, loads, compiles again and loads again, in one process."""
    x = relax.Var("x", relax.TensorType((5,), "float32"))
    values = np.arange(5, dtype=np.float32)
    results, held = [], []
    for factor in (2.0, 3.0):
        builder = relax.BlockBuilder()
        with builder.function("main", [x]):
            with builder.dataflow():
                scaled = relax.op.multiply(x, relax.const(factor, "float32"))
                out = builder.emit_output(scaled)
            builder.emit_func_output(out)
        built = kernels.build_kernels(builder.get(), tvm.target.Target("tvm_vacc"))
        library = tmp_path / SHARED_LIBRARY
        library.unlink(missing_ok=True)
        kernels.store_kernels(built, tmp_path, find_linker(TRIPLE))
        held.append(load_executable(tmp_path))  # as long as it is held, the linker knows it
        results.append(held[-1]["main"](tvm.runtime.tensor(values)).numpy())
    np.testing.assert_array_equal(results, [values * 2, values * 3])
