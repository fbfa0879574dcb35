"""`tvmc compare`: where an artefact and a checkpoint part, by the checkpoint's module names."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_vacc.tvmc._options import artefact_argument, threads_option

TOKENS = 32


@click.command(short_help="Compare an artefact with a checkpoint, operator by operator.")
@artefact_argument
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--prompt", help="The text that both read; default: the package's own.")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=TOKENS,
    show_default=True,
    help="Tokens of it that are used.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    help="Relative error of an operator that counts as parting; default: by what weights are "
    "stored as.",
)
@threads_option
def compare(
    artefact: Path,
    checkpoint: Path,
    prompt: str | None,
    tokens: int,
    tolerance: float | None,
    threads: int | None,
) -> None:
    """Run ARTEFACT and, in fp32 by transformers, CHECKPOINT on a prompt.

    Every operator of the reference is given what the artefact's own was given, so that it shows its
    own error. The first one beyond the tolerance is named: exit code 4.

    \b
    Example:
      tvmc compare glm4 glm-4-9b-chat-hf
    """
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.tvmc._load import load_language_model

    opened = open_checkpoint(checkpoint)
    model = load_language_model(artefact, threads)

    from tvm_vacc.errors import ArtifactError
    from tvm_vacc.passport import compare as comparison
    from tvm_vacc.passport.yardstick import read_yardstick_text
    from tvm_vacc.tvmc._report import print_table

    count = min(tokens, model.prefill_tokens)
    if prompt is None:
        ids = list(read_yardstick_text(None, model.tokenizer, count).tokens)
    else:
        ids = model.tokenizer.encode(prompt)[:count]
    allowed = tolerance or comparison.tolerance_of(model)
    found = list(comparison.compare(model, opened, ids))
    rows = [(d.module, d.operator, f"{d.relative_error:.2e}", f"{d.cosine:.6f}") for d in found]
    print_table(("module", "operator", "relative error", "cosine"), rows)
    # Written so that what is no number counts as beyond.
    beyond = next((d for d in found if not d.relative_error <= allowed), None)
    if beyond is not None:
        raise ArtifactError(
            f"{artefact}: parts from {checkpoint} at {beyond.module} ({beyond.operator}): relative "
            f"error {beyond.relative_error:.2g}, {allowed:g} is allowed",
            "compile this checkpoint again, or give another --tolerance",
        )
    click.echo(f"They agree within {allowed:g}, on {len(ids)} tokens.")
