"""Linears by the dot products of 64-bit Arm, on an emulated processor."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.isa import isa_of
from schedules.linear_float import linear_kernel, pack_linear_weight
from schedules.linear_int4 import linear_int4_kernel, pack_linear_int4
from schedules.linear_int8 import linear_int8_kernel, pack_linear_int8
from tests.cross import qemu
from tests.cross.arm64_root import PROGRAMS, Arm64
from tests.schedules.quantized_kernels import LARGEST_CODE, integers
from tvm_vacc.codegen.linker import find_linker
from tvm_vacc.target import triple_of
from tvm_vacc.target_string import make_target

TOKENS = (1, 2, 3, 5, 8, 12, 13, 27)
IN_FEATURES, OUT_FEATURES, GROUP = 1056, 97, 32

pytestmark = [pytest.mark.slow, qemu.needs(*PROGRAMS, "aarch64-linux-gnu-g++")]

RUN = """
import sys
import ml_dtypes
import numpy as np
import tvm
from tvm_vacc.runtime.tensors import to_tvm

def tensor(array):
    # A file of NumPy's holds no bfloat16.
    return to_tvm(array.view(ml_dtypes.bfloat16) if array.dtype == np.uint16 else array)

library, inputs, outputs = sys.argv[1:]
module, arrays = tvm.runtime.load_module(library), np.load(inputs)
results = {}
for name in map(str, arrays["names"]):
    x, *others = (arrays[f"{name}.{i}"] for i in range(3))
    for tokens in arrays["tokens"]:
        out = tvm.runtime.empty((int(tokens), int(arrays["out_features"])), "float32")
        module[name](*map(tensor, (x[:tokens], *others)), out)
        results[f"{name}.{tokens}"] = out.numpy()
np.savez(outputs, **results)
"""


@pytest.mark.parametrize("features", ["+dotprod", "+i8mm"])
def test_equals_integer_arithmetic(features: str, arm64: Arm64, tmp_path: Path) -> None:
    target = make_target(f"tvm_vacc -mtriple=aarch64-linux-gnu -mattr={features}")
    isa = isa_of(target)
    assert isa.dots_bytes
    rng = np.random.default_rng(0)
    kernels, arrays, wanted = {}, {}, {}
    for kind, largest in LARGEST_CODE.items():
        weight = rng.integers(-128, 128, (OUT_FEATURES, IN_FEATURES)).astype(np.int8)
        weight[:2] = [[-128], [127]]  # the longest sums of one sign
        x = integers(rng, max(TOKENS), IN_FEATURES, largest)
        x[:2] = [[largest], [-largest]]
        scale = rng.uniform(-1, 1, OUT_FEATURES).astype(np.float32)
        kernels[kind] = linear_int8_kernel(
            IN_FEATURES, OUT_FEATURES, isa, activations=kind, bias_dtype=None
        )
        arrays[kind] = (x, pack_linear_int8(weight), scale)
        wanted[kind] = x.astype(np.float64) @ weight.T * scale
    codes = rng.integers(-8, 8, (OUT_FEATURES, IN_FEATURES)).astype(np.int8)
    scales = rng.uniform(-1, 1, (OUT_FEATURES, IN_FEATURES // GROUP)).astype(np.float16)
    x = integers(rng, max(TOKENS), IN_FEATURES, LARGEST_CODE["float"])
    kernels["int4"] = linear_int4_kernel(IN_FEATURES, OUT_FEATURES, GROUP, isa, bias_dtype=None)
    arrays["int4"] = (x, *pack_linear_int4(codes, scales.astype(np.float32), GROUP))
    wanted["int4"] = x.astype(np.float64) @ (codes * np.repeat(scales, GROUP, 1).astype(float)).T
    results = run_on_arm(kernels, arrays, OUT_FEATURES, target, arm64, tmp_path)
    for kind, want in wanted.items():
        for tokens in TOKENS:
            error = np.abs(results[f"{kind}.{tokens}"] - want[:tokens]).max()
            assert error <= 1e-6 * np.abs(want).max()


@pytest.mark.parametrize(("in_features", "out_features"), [(1, 1), (35, 31), (1055, 97)])
def test_products_of_bf16(
    in_features: int, out_features: int, arm64: Arm64, tmp_path: Path
) -> None:
    target = make_target("tvm_vacc -mtriple=aarch64-linux-gnu -mattr=+i8mm,+bf16")
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((out_features, in_features)).astype(ml_dtypes.bfloat16)
    x = rng.standard_normal((max(TOKENS), in_features)).astype(np.float32)
    bias = rng.standard_normal(out_features).astype(np.float32)
    kernel = linear_kernel(
        in_features, out_features, "bfloat16", isa_of(target), bias_dtype="float32"
    )
    arrays = (x, pack_linear_weight(weight, "bfloat16").view(np.uint16), bias)
    results = run_on_arm(
        {"linear": kernel}, {"linear": arrays}, out_features, target, arm64, tmp_path
    )
    rounded = x.astype(ml_dtypes.bfloat16).astype(np.float64)
    want = rounded @ weight.astype(np.float64).T + bias
    size = np.abs(rounded) @ np.abs(weight.astype(np.float64)).T + np.abs(bias)
    for tokens in TOKENS:
        assert (np.abs(results[f"linear.{tokens}"] - want[:tokens]) <= 1e-6 * size[:tokens]).all()
        np.testing.assert_array_equal(results[f"linear.{tokens}"][0], results["linear.27"][0])


def run_on_arm(
    kernels: dict[str, tvm.tirx.PrimFunc],
    arrays: dict[str, tuple[np.ndarray, ...]],
    out_features: int,
    target: tvm.target.Target,
    arm64: Arm64,
    directory: Path,
) -> dict[str, np.ndarray]:
    """Return the results of every kernel for each of `TOKENS`, by ``name.tokens``."""
    named = {name: kernel.with_attr("global_symbol", name) for name, kernel in kernels.items()}
    linker = find_linker(triple_of(target))
    assert linker is not None
    library, inputs, outputs = (directory / name for name in ("k.so", "in.npz", "out.npz"))
    linker.link(tvm.compile(tvm.IRModule(named), target=target), library)
    flat = {f"{name}.{i}": array for name, own in arrays.items() for i, array in enumerate(own)}
    about = {"names": np.array(list(named)), "tokens": TOKENS, "out_features": out_features}
    np.savez(inputs, **about, **flat)  # type: ignore[arg-type]
    done = arm64.python("-c", RUN, library, inputs, outputs)
    assert done.returncode == 0, done.stderr
    return dict(np.load(outputs))
