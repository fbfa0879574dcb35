"""`tvmc chat`: a conversation, line by line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tvm_vacc.errors import RequestError
from tvm_vacc.tvmc._options import artefact_argument, sampling_options, threads_option

if TYPE_CHECKING:
    from tvm_vacc.tvmc._conversation import Conversation

HELP = """\
/stats   figures of the last answer
/reset   forget the conversation
/help    this list
/exit    leave; so does Ctrl-D
Ctrl-C stops an answer. Alt-Enter begins a new line; what is pasted may have many."""


@click.command()
@artefact_argument
@click.option("--system", help="A system message: what the model shall be.")
@sampling_options
@threads_option
def chat(
    artefact: Path,
    system: str | None,
    max_tokens: int | None,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int | None,
    threads: int | None,
) -> None:
    """Talk with a model.

    The conversation's KV cache is kept, so that only what is new is computed. Without a terminal,
    every line of standard input is one prompt.

    \b
    Example:
      tvmc chat glm4 --system "You answer in one sentence." --temperature 0.8 --top-p 0.8
    """
    from tvm_vacc.runtime.sampling import SamplingParams

    params = SamplingParams(temperature, top_p, top_k, seed)

    from tvm_vacc.tvmc._conversation import Conversation
    from tvm_vacc.tvmc._load import load_language_model

    model = load_language_model(artefact, threads)
    _ = model.tokenizer.chat_template  # one that is missing is told before the first prompt
    with model.session() as session:
        talk = Conversation(model, session, params, max_tokens or model.context, system)
        for line in read_lines():
            if line.startswith("/"):
                if line == "/exit":
                    break
                obey(line, talk)
            elif line:
                show_answer(talk, line)


def read_lines() -> Iterator[str]:
    """Yield what the user enters, stripped, until Ctrl-D or the end of standard input."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield from map(str.strip, sys.stdin)
        return

    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    click.echo("Ctrl-D leaves, /help lists the commands.", err=True)
    terminal: PromptSession[str] = PromptSession(key_bindings=keys)
    while True:
        try:
            yield terminal.prompt("> ").strip()
        except KeyboardInterrupt:  # at the prompt it drops what was typed
            continue
        except EOFError:
            return


def obey(command: str, talk: Conversation) -> None:
    """Carry out a slash command other than /exit."""
    from tvm_vacc.tvmc._answer import format_figures

    if command == "/stats":
        click.echo(format_figures(talk.session.stats), err=True)
    elif command == "/reset":
        talk.reset()
        click.echo("The conversation is forgotten.", err=True)
    elif command == "/help":
        click.echo(HELP, err=True)
    else:
        click.echo(f"unknown command {command}; /help lists them", err=True)


def show_answer(talk: Conversation, prompt: str) -> None:
    """Stream the answer to `prompt`; Ctrl-C ends it and the chat goes on."""
    from tvm_vacc.tvmc._interrupt import stop_on_interrupt

    try:
        with stop_on_interrupt() as is_stopped:
            for piece in talk.answer(prompt, is_stopped):
                click.echo(piece, nl=False)
            click.echo()
            if is_stopped():
                click.echo("[stopped]", err=True)
        if talk.is_full:
            click.echo("[the context is full; /reset starts anew]", err=True)
    except RequestError as error:
        click.echo(f"Error: {error}", err=True)
    except KeyboardInterrupt:  # the second one, in the middle of whatever the model was doing
        talk.reset()
        click.echo("\n[stopped; the conversation is forgotten]", err=True)
