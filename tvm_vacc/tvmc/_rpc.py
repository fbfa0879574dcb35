"""Options of `tvmc run` that have another machine do it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tvm_vacc.errors import ConfigError
from tvm_vacc.light_tvm import import_runtime, torch_hidden
from tvm_vacc.limits import RPC_TIMEOUT_SECONDS
from tvm_vacc.tvmc._load import require_kind

if TYPE_CHECKING:
    from tvm_vacc.runtime.remote import RemoteGraph

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_PORT = 9090
"""Where TVM's servers listen, and where TVM's tvmc sought its tracker, unless they were told."""

_PLACE = re.compile(r"(?P<host>[^:\s]+)(:(?P<port>[0-9]{1,5}))?")


def rpc_options(command: Command) -> Command:
    """Add --rpc-tracker, --rpc-key and --rpc-timeout to a command."""
    options = (
        click.option(
            "--rpc-tracker",
            metavar="HOST:PORT",
            help="Run on a server that this tracker of TVM's RPC knows; without --rpc-key, on the "
            "server at this address. Only in a network that you trust.",
        ),
        click.option("--rpc-key", metavar="KEY", help="What such servers call themselves there."),
        click.option(
            "--rpc-timeout",
            type=click.IntRange(min=1),
            default=RPC_TIMEOUT_SECONDS,
            show_default=True,
            metavar="SECONDS",
            help="Wait so long for a server that is free, and for each of its answers.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def parse_place(text: str) -> tuple[str, int]:
    """Return host and port of an address, `DEFAULT_PORT` where it names none.

    Raises:
        ConfigError: it is no address.
    """
    place = _PLACE.fullmatch(text)
    port = int(place["port"] or DEFAULT_PORT) if place else 0
    if place is None or not 0 < port < 1 << 16:
        raise ConfigError(f"--rpc-tracker {text!r}: is no address", "write HOST:PORT")
    return place["host"], port


@contextmanager
def remote_graph(
    artefact: Path, host: str, port: int, key: str | None, timeout: int
) -> Iterator[RemoteGraph]:
    """See `tvm_vacc.runtime.remote.open_remote`; this process needs no compiler for it."""
    require_kind(artefact, "graph")
    import_runtime()
    with torch_hidden():
        from tvm_vacc.runtime.remote import open_remote
    with open_remote(artefact, host, port, key, timeout) as graph:
        yield graph
