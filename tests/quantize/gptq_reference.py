"""GPTQ in NumPy and fp64, column by column: no blocks, no Cholesky factor.

After a column is quantised the inverse Hessian of the columns that are left is found by removing it
by Gaussian elimination: equation (3) of "Optimal Brain Compression" (Frantar & Alistarh, 2022),
from which GPTQ derives its algorithm.
"""

from __future__ import annotations

import numpy as np

RANGES = {8: (-127, 127), 4: (-8, 7)}


def gptq_reference(
    weight: np.ndarray,
    hessian: np.ndarray,
    scales: np.ndarray,
    bits: int,
    group_size: int,
    damping: float = 0.01,
    *,
    act_order: bool = False,
) -> np.ndarray:
    """Return codes ``[out, in]``; weight ``[out, in]``, hessian ``[in, in]``, scales per group."""
    left = weight.astype(np.float64).copy()
    damped = hessian.astype(np.float64).copy()
    diagonal = np.diag(damped).copy()
    unseen = diagonal == 0
    damped[unseen, unseen] = diagonal.mean()
    damped += damping * diagonal.mean() * np.eye(len(diagonal))
    inverse = np.linalg.inv(damped)
    order = np.argsort(-diagonal, kind="stable") if act_order else np.arange(len(diagonal))
    codes = np.zeros(weight.shape, np.int8)
    for position, i in enumerate(order):
        scale = scales[:, i // group_size].astype(np.float64)
        codes[:, i] = np.clip(np.rint(left[:, i] / scale), *RANGES[bits])
        error = (left[:, i] - codes[:, i] * scale) / inverse[i, i]
        behind = order[position + 1 :]
        left[:, behind] -= np.outer(error, inverse[i, behind])
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    return codes


def output_error(
    weight: np.ndarray, codes: np.ndarray, scales: np.ndarray, inputs: np.ndarray
) -> float:
    """Return ``|x (w - q)| / |x w|`` for inputs ``[tokens, in]``."""
    quantised = codes * np.repeat(scales, weight.shape[1] // scales.shape[1], axis=1)
    wrong = inputs.astype(np.float64) @ (weight - quantised).T
    return float(np.linalg.norm(wrong) / np.linalg.norm(inputs.astype(np.float64) @ weight.T))
