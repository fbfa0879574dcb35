"""`python -m benchmarks gguf`: a checkpoint in the form that llama.cpp reads."""

from __future__ import annotations

from pathlib import Path

import click

TYPES = click.Choice(["q8_0", "q4_0", "bf16", "f16"])


@click.command("gguf")
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--type", "kind", type=TYPES, required=True, help="Of all matrices.")
@click.option("--head", type=TYPES, help="Of the output projection; default: as the others.")
def gguf_command(checkpoint: Path, file: Path, kind: str, head: str | None) -> None:
    """Write the GLM of the directory CHECKPOINT to the GGUF file FILE.

    The file has no tokenizer: what is measured takes token ids. llama-quantize makes the head of
    its q4_0 files larger than the rest, which --head q8_0 comes nearest to.

    \b
    Example:
      python -m benchmarks gguf glm-4-9b-chat-hf glm4-q8_0.gguf --type q8_0
    """
    from rich.console import Console

    from benchmarks.gguf_file import write_gguf
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.tvmc._progress import show_progress

    with show_progress(Console(stderr=True)) as progress:
        write_gguf(open_checkpoint(checkpoint), file, kind=kind, head=head, report=progress)
    click.echo(f"The GGUF file is {file}")
