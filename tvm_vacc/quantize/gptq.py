"""GPTQ: codes chosen one input after the other, each error made good by the inputs behind it.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022, algorithm 1; act-order and static groups as in the authors' code
(https://github.com/IST-DASLab/gptq, `gptq.py`). The scales are given, those of `round_to_nearest`
for one: kernels and layouts are the same, and only which of its codes a weight gets differs.

An input that calibration has never seen (a zero on the diagonal) tells nothing of its errors: its
weights are rounded to nearest, and no other weight makes up for them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CODE_RANGES = {8: (-127, 127), 4: (-8, 7)}
"""Smallest and largest code by bits, as `round_to_nearest` has them."""

BLOCK = 128
"""Inputs whose errors go to all inputs behind them at once, by one matrix product."""

RAISE = 10.0
"""What damping is multiplied by where the Hessian is not positive definite with it."""

MOST_DAMPING = 1e4
"""Share of the mean diagonal where the Hessian is next to a multiple of the identity."""


class NoFactorError(ArithmeticError):
    """A Hessian that no damping makes positive definite: it holds what is not finite."""


class GptqCodes(NamedTuple):
    """What GPTQ has chosen.

    Attributes:
        codes: ``[out, in]`` int8.
        damping: what was needed, as a share of the mean diagonal.
    """

    codes: Tensor
    damping: float


def gptq(
    weight: Tensor,
    hessian: Tensor,
    scales: Tensor,
    bits: int,
    group_size: int,
    *,
    damping: float = 0.01,
    act_order: bool = False,
) -> GptqCodes:
    """Choose codes that keep ``x @ weight.T`` for the inputs ``x`` that the Hessian is made of.

    Beside the arguments four matrices like the Hessian and two like the weight are needed.

    Args:
        weight: ``[out, in]`` fp32.
        hessian: ``x.T @ x`` ``[in, in]`` fp32, times any number.
        scales: ``[out, groups]`` fp32: a weight is near to ``code * scale``.
        bits: 8 or 4.
        group_size: inputs that share a scale.
        damping: share of the mean diagonal that is added to it; raised where it is too little.
        act_order: begin with the inputs of largest diagonal rather than with the first.

    Raises:
        NoFactorError: the Hessian is not finite.
    """
    diagonal = hessian.diagonal().clone()
    order = torch.argsort(diagonal, descending=True, stable=True)
    if not act_order:
        order = torch.arange(len(diagonal), device=hessian.device)
    factor_II, damping = _inverse_factor(hessian[order][:, order], damping)
    left_IO = weight.T[order].contiguous()  # an input's weights side by side: one is used at a time
    scales_GO = scales.T.contiguous()
    codes_IO = torch.empty_like(left_IO, dtype=torch.int8)
    low, high = CODE_RANGES[bits]
    groups = (order // group_size).tolist()
    for start in range(0, len(groups), BLOCK):
        stop = min(start + BLOCK, len(groups))
        block_IO = left_IO[start:stop]
        errors_IO = torch.empty_like(block_IO)
        for i in range(stop - start):
            row = factor_II[start + i, start:stop]
            scale = scales_GO[groups[start + i]]
            code = torch.clamp(torch.round(block_IO[i] / scale), low, high)
            codes_IO[start + i] = code.to(torch.int8)
            errors_IO[i] = (block_IO[i] - code * scale) / row[i]
            block_IO[i + 1 :].addr_(row[i + 1 :], errors_IO[i], alpha=-1)
        left_IO[stop:].addmm_(factor_II[start:stop, stop:].T, errors_IO, alpha=-1)
    codes_IO[order] = codes_IO.clone()
    return GptqCodes(codes_IO.T.contiguous(), damping)


def relative_error(weight: Tensor, codes: Tensor, scales: Tensor, hessian: Tensor) -> float:
    """Return the error of the output, ``|x (w - q)| / |x w|``, of the Hessian's inputs ``x``.

    Args:
        weight: ``[out, in]`` fp32.
        codes: ``[out, in]`` int8.
        scales: ``[out, groups]`` fp32.
        hessian: ``x.T @ x`` ``[in, in]`` fp32.
    """
    power = output_power(weight, hessian)
    wrong = output_power(weight - dequantized(codes, scales), hessian)
    return (wrong / power) ** 0.5 if power > 0 else 0.0


def output_power(weight: Tensor, hessian: Tensor) -> float:
    """Return ``|x @ weight.T|^2`` of the inputs ``x`` whose ``x.T @ x`` the Hessian is."""
    return max(0.0, float(((weight @ hessian) * weight).sum()))


def dequantized(codes: Tensor, scales: Tensor) -> Tensor:
    """Return ``codes * scales`` ``[out, in]`` fp32; codes ``[out, in]``, scales ``[out, groups]``.

    The inputs are a multiple of the groups.
    """
    grouped = codes.float().unflatten(1, (scales.shape[1], -1))
    return (grouped * scales[:, :, None]).flatten(1)


def _inverse_factor(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """Return the upper Cholesky factor of the inverse of the damped Hessian, and the damping.

    Overwrites its argument.
    """
    diagonal = hessian.diagonal()
    unseen = diagonal == 0
    mean = float(diagonal.mean())
    diagonal[unseen] = mean or 1.0
    undamped = diagonal.clone()
    while damping <= MOST_DAMPING:
        diagonal.copy_(undamped + damping * mean)
        lower, failed = torch.linalg.cholesky_ex(hessian)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed and bool(upper.isfinite().all()):
            return upper, damping
        damping *= RAISE
    raise NoFactorError("a Hessian that is not finite")
