"""How far two models' predictions are apart, and two hidden states."""

from __future__ import annotations

import numpy as np

SMALLEST = 1e-12
"""Probability that a bucket has at least: rounding may leave a little less than nothing."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities: fp64 ``[..., vocab]`` of ``[..., vocab]``."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted


def kl_divergence(reference: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return ``sum p (log p - log q)`` in nats, ``[...]`` of log-probabilities ``[..., vocab]``."""
    return np.maximum(0.0, (np.exp(reference) * (reference - found)).sum(-1))


def top_kl_divergence(reference: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the divergence over some tokens and one bucket for all others.

    Merging outcomes never adds to the divergence, so it is at most that of the whole vocabulary.

    Args:
        reference: log-probabilities of the tokens, ``[..., k]`` fp64.
        found: the other model's, of the same tokens.
    """
    return kl_divergence(_with_rest(reference), _with_rest(found))


def _with_rest(log_probabilities: np.ndarray) -> np.ndarray:
    rest = 1.0 - np.exp(log_probabilities).sum(-1, keepdims=True)
    return np.concatenate([log_probabilities, np.log(np.maximum(rest, SMALLEST))], -1)


def cosines(reference: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the cosine of each row, ``[rows]`` of ``[rows, width]``; 1 where both are zero."""
    reference, found = reference.astype(np.float64), found.astype(np.float64)
    product = (reference * found).sum(-1)
    norms = np.linalg.norm(reference, axis=-1) * np.linalg.norm(found, axis=-1)
    same = (reference == found).all(-1)
    return np.where(same, 1.0, product / np.where(norms == 0.0, 1.0, norms))


def relative_error(reference: np.ndarray, found: np.ndarray) -> float:
    """Return the norm of the difference over the norm of the reference; 0 where both are zero."""
    difference = float(np.linalg.norm(found.astype(np.float64) - reference))
    norm = float(np.linalg.norm(reference.astype(np.float64)))
    if difference == 0.0:
        return 0.0
    return difference / norm if norm else float("inf")
