"""`python -m benchmarks checkpoint`: random weights in the shapes of GLM-4-9B."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--layers", type=click.IntRange(min=1), help="Of the model; default: as the config says, 40."
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The config.json of another GLM; default: that of GLM-4-9B-chat.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def checkpoint(directory: Path, layers: int | None, config_file: Path | None, seed: int) -> None:
    """Write a checkpoint of random bf16 weights to DIRECTORY; shards that are there stay.

    40 layers take 18.8 GB. There is no tokenizer: what is measured takes token ids.

    \b
    Example:
      python -m benchmarks checkpoint /tmp/glm-4-9b-4-layers --layers 4
    """
    from rich.console import Console

    from benchmarks.glm4_9b import CONFIG
    from benchmarks.synthetic import write_checkpoint
    from tvm_vacc.errors import ConfigError
    from tvm_vacc.safe_io import read_json_object
    from tvm_vacc.tvmc._progress import show_progress

    config = read_json_object(config_file, error=ConfigError) if config_file else CONFIG
    if layers is not None:
        config = {**config, "num_hidden_layers": layers}
    with show_progress(Console(stderr=True)) as progress:
        write_checkpoint(directory, config, seed=seed, report=progress)
    click.echo(f"The checkpoint is in {directory}")
