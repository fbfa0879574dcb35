"""Held-out perplexity per token and bits per byte, by transformers in fp32.

    python -m demo.evaluate

Each held-out document (a chapter, a poem, with its heading) is cut into windows of at most 254
tokens; each window is scored after ``[gMASK]<sop>``. Every token of the text is predicted
exactly once; the two prefix tokens are never scored.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM

from demo.fetch_text import read_documents

DEMO = Path(__file__).parent
TEXTS = ("kjv", "poems")
WINDOW = 256
PREFIX = ("[gMASK]", "<sop>")
PAD_LABEL = -100


@dataclass(frozen=True)
class Score:
    """The negative log likelihood, in nats, of a text of so many tokens and UTF-8 bytes."""

    nats: float
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        """Perplexity per token: depends on the tokenizer."""
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits per UTF-8 byte: comparable between tokenizers."""
        return self.nats / math.log(2) / self.bytes


def windows(documents: list[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of the documents' windows, each without its prefix."""
    size = WINDOW - len(PREFIX)
    encoded = tokenizer.encode_batch(documents, add_special_tokens=False)
    return [e.ids[i : i + size] for e in encoded for i in range(0, len(e.ids), size)]


@torch.no_grad()
def score(model: nn.Module, tokenizer: Tokenizer, documents: list[str], batch: int = 16) -> Score:
    """Score documents with any causal model whose output has ``logits`` (batch, length, vocab)."""
    prefix = [tokenizer.token_to_id(token) for token in PREFIX]
    pieces = sorted(windows(documents, tokenizer), key=len)
    nats = 0.0
    for start in range(0, len(pieces), batch):
        group = pieces[start : start + batch]
        ids = torch.zeros(len(group), len(prefix) + len(group[-1]), dtype=torch.long)
        labels = torch.full_like(ids, PAD_LABEL)
        for row, piece in enumerate(group):
            ids[row, : len(prefix) + len(piece)] = torch.tensor(prefix + piece)
            labels[row, len(prefix) : len(prefix) + len(piece)] = torch.tensor(piece)
        logits = model(ids, use_cache=False).logits[:, :-1].float()
        targets = labels[:, 1:].flatten()
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), targets, ignore_index=PAD_LABEL, reduction="sum"
        )
        nats += loss.item()
    return Score(nats, sum(map(len, pieces)), sum(len(text.encode()) for text in documents))


def held_out(name: str, folder: Path = DEMO / "heldout") -> list[str]:
    """The held-out documents of one text, ``kjv`` or ``poems``."""
    return ["\n".join(lines) for lines in read_documents(folder / f"{name}.txt")]


def main() -> None:
    """Score a checkpoint on the whole held-out text of both languages."""
    parser = argparse.ArgumentParser(description="Held-out perplexity of the demo checkpoint.")
    parser.add_argument("--checkpoint", type=Path, default=DEMO / "checkpoint")
    checkpoint: Path = parser.parse_args().checkpoint
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    for name in TEXTS:
        result = score(model, tokenizer, held_out(name))
        print(
            f"{name}: perplexity {result.perplexity:.3f} per token, "
            f"{result.bits_per_byte:.4f} bits per byte ({result.tokens} tokens, "
            f"{result.bytes} bytes)"
        )


if __name__ == "__main__":
    main()
