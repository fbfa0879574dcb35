"""One linear: its codes by GPTQ, and what they cost against rounding to nearest."""

from __future__ import annotations

import torch
from torch import Tensor

from tvm_vacc.artifact.calibration import CalibratedWeight
from tvm_vacc.calibration.codes_file import Codes
from tvm_vacc.calibration.options import CalibrationOptions
from tvm_vacc.errors import CheckpointError
from tvm_vacc.quantize.gptq import NoFactorError, gptq, relative_error
from tvm_vacc.quantize.round_to_nearest import UnquantizableError, round_to_nearest


def quantize_linear(
    name: str,
    weight: Tensor,
    hessian: Tensor,
    bits: int,
    group_size: int,
    options: CalibrationOptions,
) -> tuple[Codes, CalibratedWeight]:
    """Choose the codes of a weight ``[out, in]`` fp32, on the grid of `round_to_nearest`.

    Scales of less squared error (searched, weighted by the Hessian's diagonal) do not lower the KL
    divergence of the demo behind GPTQ: 4.8e-5 against 4.7e-5 in 8 bits, 8.0e-3 both in 4 bits.

    Args:
        name: of the weight, for errors.
        weight: may be on any device; the codes come back on it.
        hessian: of its inputs, ``[in, in]`` fp32, see `gather_hessians`.
        bits: 8 or 4.
        group_size: inputs that share a scale.
        options: damping and order.

    Raises:
        CheckpointError: the weight, or an input of it, is not finite.
    """
    try:
        rounded = [
            torch.from_numpy(array).to(weight.device)
            for array in round_to_nearest(weight.cpu().numpy(), bits, group_size)
        ]
        nearest, scales = rounded
        codes, damping = gptq(
            weight,
            hessian,
            scales,
            bits,
            group_size,
            damping=options.damping,
            act_order=options.act_order,
        )
    except UnquantizableError as problem:
        raise CheckpointError(f"{name} holds {problem}", _CURE) from problem
    except NoFactorError as problem:
        raise CheckpointError(f"{name}: its inputs on the text are not finite", _CURE) from problem
    return Codes(codes, scales), CalibratedWeight(
        name=name,
        error=relative_error(weight, codes, scales, hessian),
        rounded=relative_error(weight, nearest, scales, hessian),
        damping=damping,
    )


_CURE = "a model that is not finite cannot be quantised: download or convert it again"
