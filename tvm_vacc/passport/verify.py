"""Holds a model, as it runs on this machine, against what its manifest states."""

from __future__ import annotations

from tvm_vacc.artifact.passport import Replay
from tvm_vacc.errors import ArtifactError
from tvm_vacc.passport.measure import Told, replay
from tvm_vacc.passport.yardstick import YARDSTICK_FILE, Predictions
from tvm_vacc.runtime.model import Model

ROUNDING = 1e-6
"""Nats and shares: what another machine's order of additions may make of nothing."""


_FIGURES = (
    ("mean KL divergence", "top_kl_mean", 1),
    ("99th percentile of the KL divergence", "top_kl_p99", 1),
    ("top-1 agreement", "top1", -1),
    ("perplexity", "perplexity", 1),
)
"""What they are called, where they stand, and which way is worse."""


def verify(model: Model, told: Told = lambda done, total: None) -> Replay:
    """Replay the yardstick and return what was found.

    Where the manifest states nothing because the artefact could not run where it was made, there
    is nothing to be held against.

    Raises:
        ArtifactError: the artefact has no passport, or is worse than its passport states.
        RequestError: the yardstick does not fit the model.
    """
    passport = model.manifest.passport
    if passport is None:
        raise ArtifactError(
            f"{model.path}: has no accuracy passport",
            "compile it again with a tokenizer and without --no-passport or accuracy: false",
        )
    found = replay(model, Predictions.load(model.path / YARDSTICK_FILE), told)
    if passport.accuracy is not None:
        require_as_stated(passport.accuracy.replay, found, passport.tolerance, str(model.path))
    return found


def require_as_stated(stated: Replay, found: Replay, tolerance: float, where: str) -> None:
    """Refuse figures that are worse than the stated ones by more than `tolerance` of them.

    Raises:
        ArtifactError: names the first such figure.
    """
    for name, key, worse in _FIGURES:
        was, now = getattr(stated, key), getattr(found, key)
        if worse * (now - was) > tolerance * was + ROUNDING:
            raise ArtifactError(
                f"{where}: its {name} is {now:.4g} here, its manifest states {was:.4g}",
                "a weight or kernel is damaged, or this machine computes otherwise: compile again",
            )
