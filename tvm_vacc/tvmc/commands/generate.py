"""`tvmc generate`: one prompt, its answer streamed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tvm_vacc.tvmc._options import artefact_argument, sampling_options, threads_option


@click.command()
@artefact_argument
@click.option("--prompt", required=True, help="The text; - reads it from standard input.")
@click.option(
    "--chat/--raw", help="Put the prompt into the model's chat template; default: as it is."
)
@sampling_options
@threads_option
def generate(
    artefact: Path,
    prompt: str,
    chat: bool,
    max_tokens: int | None,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int | None,
    threads: int | None,
) -> None:
    """Continue a text, or answer it with --chat.

    The answer goes to standard output as it is made, a line of figures to standard error.

    \b
    Example:
      tvmc generate glm4 --chat --prompt "Who wrote the Tang poems?" --max-tokens 200
    """
    from tvm_vacc.runtime.sampling import SamplingParams

    SamplingParams(temperature, top_p, top_k, seed)  # refused before the model is loaded
    if prompt == "-":
        prompt = sys.stdin.read().removesuffix("\n")

    from tvm_vacc.tvmc._answer import decode_answer, format_figures
    from tvm_vacc.tvmc._load import load_language_model

    model = load_language_model(artefact, threads)
    tokenizer = model.tokenizer
    message = {"role": "user", "content": prompt}
    ids = tokenizer.encode_chat([message]) if chat else tokenizer.encode(prompt)
    with model.session() as session:
        tokens = session.generate(ids, max_tokens or model.context, temperature, top_p, top_k, seed)
        for piece in decode_answer(tokens, tokenizer, strip_start=chat):
            click.echo(piece, nl=False)
        click.echo()
        click.echo(format_figures(session.stats), err=True)
