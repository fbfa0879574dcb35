"""Decides by evaluation whether a graph scales its scores and masks them causally.

Exporters write masks in many ways (additive, boolean, `where`, from shapes, from positions, through
gather); what they have in common is the value. The subgraph between the scores and the softmax is
cut out, compiled by stock TVM and run for several pasts and lengths, with random scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import tvm_ffi
from tvm import relax

from relay_passes.cut import cut, inputs_at, runner
from relay_passes.rewriter import View, shape_of

_CASES = ((0, 16), (13, 3), (31, 1), (5, 27), (0, 128), (4090, 6), (65535, 1))
"""(past, seq): prefill, chunks, decode; totals are whole pages. The long ones find windows."""

_HIDDEN = -9e3
"""A logit at or below this has no weight after the softmax: masks add -1e4 or less to scores."""


@dataclass
class CausalMasks:
    """Remembers the expressions it has judged: the layers of a model share one."""

    _judged: list[tuple[relax.Function, float | None]] = field(default_factory=list)

    def scale(self, view: View, scores: relax.Var, logits: relax.Expr) -> float | None:
        """Return the factor by which `logits` scales `scores` where its mask is causal.

        Args:
            view: the function they are in.
            scores: ``[1, heads, seq, total]``.
            logits: computed from `scores` and the model's inputs.

        Returns:
            The factor; None where the mask is another one, or none, or depends on weights.
        """
        inputs = [param for param in view.inputs if len(shape_of(param)) < 4]
        function = cut(view, [scores, *inputs], [logits])
        if function is None:
            return None
        for known, scale in self._judged:
            if tvm_ffi.structural_equal(known, function):
                return scale
        self._judged.append((function, _measured_scale(function)))
        return self._judged[-1][1]


def _measured_scale(function: relax.Function) -> float | None:
    run = runner(function)
    heads = int(shape_of(function.params[0])[1])
    generator = np.random.default_rng(0)
    scale = None
    for past, seq in _CASES:
        inputs = inputs_at(function.params[1:], past, seq)
        if inputs is None:
            return None
        scores = generator.standard_normal((1, heads, seq, past + seq), dtype=np.float32)
        scores[..., 0] = 1  # position 0 is visible to all: there a logit is the factor itself
        (logits,) = run([scores, *inputs])
        scale = float(logits[0, 0, 0, 0]) if scale is None else scale
        visible = np.arange(past + seq) <= past + np.arange(seq)[:, None]
        seen = np.allclose(
            np.where(visible, logits, 0), np.where(visible, scale * scores, 0), atol=1e-5
        )
        if not seen or not np.all(np.where(visible, _HIDDEN, logits) <= _HIDDEN):
            return None
    return scale
