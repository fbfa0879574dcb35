"""What an accuracy passport says, as lines and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm_vacc.limits import FP16_MAX
from tvm_vacc.tvmc._report import print_facts, print_table
from tvm_vacc.wording import layers_text

if TYPE_CHECKING:
    from tvm_vacc.artifact.passport import Accuracy, Passport, Replay

_LARGEST = {"hidden": "hidden state", "key": "key", "value": "value"}
"""What the passport notes the largest magnitudes of in each layer, and what it is called."""


def print_passport(passport: Passport) -> None:
    """Print the figures; nothing of the layers."""
    accuracy = passport.accuracy
    facts = {
        "accuracy": f"on {passport.tokens} tokens of {passport.text or 'the package'}, against "
        "transformers in fp32"
    }
    if accuracy is None:
        facts["measured"] = f"no: {passport.note}; tvmc verify measures it where it runs"
    else:
        facts |= {
            "KL divergence": f"{accuracy.kl_mean:.3g} nats in the mean, 99th percentile "
            f"{accuracy.kl_p99:.3g}",
            "top-1": f"{accuracy.replay.top1:.2%}",
            "perplexity": f"{accuracy.replay.perplexity:.4f}, of the reference "
            f"{passport.reference_perplexity:.4f}",
            "fp16 range": _fp16_range(accuracy),
        }
    if passport.promoted:
        layers = layers_text(passport.promoted)
        facts["promoted"] = f"KV cache of {layers}: keys or values near the end of fp16"
    print_facts(facts)


def _fp16_range(accuracy: Accuracy) -> str:
    """Say whether anything that is observed goes beyond fp16, whatever it is stored as."""
    found = [
        (getattr(step, what), what, index)
        for index, layer in enumerate(accuracy.layers)
        for step in (layer.prefill, layer.decode)
        for what in _LARGEST
    ]
    largest, what, index = max(found)
    word = "exceeded, by what is stored as fp32 or bf16" if largest > FP16_MAX else "not exceeded"
    return f"{word}: at most {largest:.4g} of {FP16_MAX:.0f}, a {_LARGEST[what]} of layer {index}"


def print_layers(passport: Passport) -> None:
    """Print a table of the hidden state after each layer, and of the largest magnitudes."""
    if passport.accuracy is None:
        return
    columns = ("after layer", "cosine", "relative error", *_LARGEST)
    rows = []
    for index, layer in enumerate(passport.accuracy.layers):
        steps = (layer.prefill, layer.decode)
        largest = [max(getattr(s, what) for s in steps) for what in _LARGEST]
        rows.append(
            (
                str(index),
                f"{layer.cosine:.6f}",
                f"{layer.relative_error:.2e}",
                *(f"{value:.4g}" for value in largest),
            )
        )
    print_table(columns, rows)


def print_replay(passport: Passport, found: Replay) -> None:
    """Print what was measured here beside what the manifest states."""
    stated = passport.accuracy.replay if passport.accuracy else None
    names = {
        "perplexity": "perplexity",
        "top1": "top-1 agreement",
        "top_kl_mean": "KL of the most probable tokens, mean",
        "top_kl_p99": "KL of the most probable tokens, 99 %",
    }
    rows = [
        (
            name,
            f"{getattr(found, key):.6g}",
            f"{getattr(stated, key):.6g}" if stated else "-",
        )
        for key, name in names.items()
    ]
    print_table(("figure", "here", "stated"), rows)
