"""Train the demo checkpoint: tokenizer, then transformers' own GLM, on one CPU core.

    python -m demo.fetch_text --workspace DIR
    python -m demo.train --workspace DIR

Training state lives in DIR/state as safetensors and JSON; the command resumes from it. Ctrl-C
saves and stops. The weights of the best held-out loss are kept and written, in bf16, with
tokenizer and configuration to the checkpoint folder (``--output``).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.optim import AdamW, Muon, Optimizer
from transformers import GenerationConfig, GlmConfig, GlmForCausalLM

from demo.evaluate import DEMO, TEXTS, held_out, score
from demo.examples import Examples
from demo.fetch_text import read_documents
from demo.tokenizer import END_TOKENS, save_tokenizer, train_tokenizer

ROW_LENGTH = 256
LONG_ROW_FACTOR = 2  # rows of the last steps are longer, so that longer chats work too
LONG_ROWS_FROM = 0.85
WARM_UP_STEPS = 100
FINAL_LEARNING_RATE = 0.02  # of the peak
GRADIENT_NORM = 1.0


def glm_config(tokenizer: Tokenizer) -> GlmConfig:
    """A small GLM with every feature of GLM-4: see README.md."""
    return GlmConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        attention_bias=True,
        tie_word_embeddings=False,
        rms_norm_eps=1.5625e-07,
        max_position_embeddings=2048,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=[tokenizer.token_to_id(token) for token in END_TOKENS],
    )


def make_optimizers(model: GlmForCausalLM, peak: float) -> list[Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings, head, biases and norms.

    Muon (Keller Jordan, 2024) needs fewer tokens than AdamW on a budget this small;
    ``match_rms_adamw`` scales its updates so that one learning rate serves both.
    """
    matrices: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for name, parameter in model.named_parameters():
        is_layer_matrix = parameter.ndim == 2 and ".layers." in name
        (matrices if is_layer_matrix else others).append(parameter)
    return [
        Muon(matrices, lr=peak, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, lr=peak, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a small part of the peak."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return peak * warm_up * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine)


def save_state(
    folder: Path, model: GlmForCausalLM, optimizers: list[Optimizer], info: dict[str, Any]
) -> None:
    """Write weights and optimiser tensors; the JSON file comes last and makes them count."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{index}.{parameter}.{key}": value for key, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step{info['step']}.safetensors"
    save_file(tensors, folder / name)
    scratch = folder / "info.json.part"
    scratch.write_text(json.dumps(info))
    scratch.replace(folder / "info.json")
    for old in set(folder.glob("step*.safetensors")) - {folder / name}:
        old.unlink()


def load_state(folder: Path, model: GlmForCausalLM, optimizers: list[Optimizer]) -> dict[str, Any]:
    """Restore what save_state wrote; returns its ``info``."""
    info = json.loads((folder / "info.json").read_text())
    states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in optimizers]
    weights = {}
    for name, tensor in load_file(folder / f"step{info['step']}.safetensors").items():
        owner, _, rest = name.partition(".")
        if owner == "model":
            weights[rest] = tensor
        else:
            parameter, key = rest.split(".")
            states[int(owner)].setdefault(int(parameter), {})[key] = tensor
    model.load_state_dict(weights)
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    return info


def make_batch(examples: Examples, step: int, args: argparse.Namespace) -> torch.Tensor:
    """Token ids (rows, length) of one step; the same number of tokens at every step."""
    factor = LONG_ROW_FACTOR if step >= LONG_ROWS_FROM * args.steps else 1
    rows, length = args.rows // factor, ROW_LENGTH * factor
    return torch.tensor([examples.row(f"{args.seed}/{step}/{i}", length) for i in range(rows)])


def evaluate(model: GlmForCausalLM, tokenizer: Tokenizer, folder: Path, every: int) -> float:
    """Mean bits per byte of the two held-out texts, of every so-manieth document."""
    model.eval()
    scores = [score(model, tokenizer, held_out(name, folder)[::every]) for name in TEXTS]
    model.train()
    for name, result in zip(TEXTS, scores, strict=True):
        print(
            f"  held out {name}: perplexity {result.perplexity:.2f} per token, "
            f"{result.bits_per_byte:.4f} bits per byte"
        )
    return sum(s.bits_per_byte for s in scores) / len(scores)


def train(args: argparse.Namespace, tokenizer: Tokenizer) -> None:
    """Run or resume the training; leaves the best weights in DIR/state/best.safetensors."""
    torch.manual_seed(args.seed)
    model = GlmForCausalLM(glm_config(tokenizer)).train()
    optimizers = make_optimizers(model, args.learning_rate)
    folder: Path = args.workspace / "state"
    info: dict[str, Any] = {"step": 0, "best": math.inf}
    if (folder / "info.json").exists():
        info = load_state(folder, model, optimizers)
    examples = Examples(args.workspace / "train", tokenizer)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, from step {info['step']}")
    first, started = info["step"], time.monotonic()
    # Between two steps only: an interrupted optimiser would leave half an update behind.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while info["step"] < args.steps and not stop.is_set():
        step = info["step"]
        ids = make_batch(examples, step, args)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps, args.learning_rate)
            optimizer.step()
            optimizer.zero_grad()
        info["step"] = step + 1
        if info["step"] % 20 == 0:
            seconds = (time.monotonic() - started) / (info["step"] - first)
            print(
                f"step {info['step']}/{args.steps} loss {loss.item():.4f} "
                f"{ids.numel() / seconds:.0f} tokens/s "
                f"{seconds * (args.steps - info['step']) / 60:.1f} min left",
                flush=True,
            )
        if info["step"] % 300 == 0 or info["step"] == args.steps:
            held_out_bits = evaluate(model, tokenizer, args.workspace / "heldout", every=10)
            if held_out_bits < info["best"]:
                info["best"] = held_out_bits
                folder.mkdir(parents=True, exist_ok=True)
                save_file(model.state_dict(), folder / "best.safetensors")
            save_state(folder, model, optimizers, info)
    if stop.is_set():
        save_state(folder, model, optimizers, info)
        raise SystemExit(f"stopped and saved at step {info['step']}")


def write_checkpoint(args: argparse.Namespace, tokenizer: Tokenizer) -> None:
    """Write the best weights in bf16, the configurations, the tokenizer and the held-out text."""
    model = GlmForCausalLM(glm_config(tokenizer))
    model.load_state_dict(load_file(args.workspace / "state/best.safetensors"))
    model.generation_config = GenerationConfig(
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
        do_sample=True,
        temperature=0.8,
        top_p=0.9,
    )
    model.to(torch.bfloat16).save_pretrained(args.output)
    save_tokenizer(tokenizer, args.output)
    shutil.copytree(args.workspace / "heldout", DEMO / "heldout", dirs_exist_ok=True)


def main() -> None:
    """Train (or resume) and write the checkpoint folder."""
    parser = argparse.ArgumentParser(description="Train the demo checkpoint.")
    parser.add_argument("--workspace", type=Path, required=True, help="text and training state")
    parser.add_argument("--output", type=Path, default=DEMO / "checkpoint")
    parser.add_argument("--steps", type=int, default=2080)
    parser.add_argument("--rows", type=int, default=8, help="rows of 256 tokens in a step")
    parser.add_argument("--learning-rate", type=float, default=8e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer_file = args.workspace / "tokenizer.json"
    if not tokenizer_file.exists():
        paths = [args.workspace / f"train/{name}.txt" for name in TEXTS]
        documents = [document for path in paths for document in read_documents(path)]
        train_tokenizer("\n".join(doc) + "\n" for doc in documents).save(str(tokenizer_file))
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    train(args, tokenizer)
    write_checkpoint(args, tokenizer)


if __name__ == "__main__":
    main()
