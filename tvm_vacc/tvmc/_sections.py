"""Options in sections of a command's help, and the grammar of TVM's former command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

OTHERS = "Others"


class SectionOption(click.Option):
    """An option that stands in a section of its own in the help.

    Attributes:
        section: its heading.
        takes_words: whether all words up to the next option are values of it, as argparse has it.
    """

    def __init__(
        self, *args: Any, section: str = OTHERS, takes_words: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.takes_words = takes_words


def section(heading: str) -> Callable[..., Any]:
    """Return what makes an option of the section `heading`, as `click.option` does."""

    def option(*names: str, **attributes: Any) -> Any:
        return click.option(*names, cls=SectionOption, section=heading, **attributes)

    return option


class SectionedCommand(click.Command):
    """A command with its options under headings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`; a list of words after one option becomes the option over and over."""
        many = {
            name
            for param in self.params
            if isinstance(param, SectionOption) and param.takes_words
            for name in param.opts
        }
        expanded: list[str] = []
        current = ""
        for word in args:
            if word.startswith("-"):
                current = word if word in many else ""
                if not current:
                    expanded.append(word)
            elif current:
                expanded += [current, word]
            else:
                expanded.append(word)
        return super().parse_args(ctx, expanded)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading; those without one come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                heading = param.section if isinstance(param, SectionOption) else OTHERS
                sections.setdefault(heading, []).append(record)
        for heading in sorted(sections, key=lambda heading: heading == OTHERS):
            with formatter.section(heading):
                formatter.write_dl(sections[heading])


def split_list(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in `values`, each of which may be a list: ``a,b`` or ``[a, b]``."""
    parts = (part for value in values for part in value.strip("[] ").split(","))
    return tuple(part.strip() for part in parts if part.strip())
