"""YAML as plain data: safe tags only, no duplicate keys, no aliases, dates stay text."""

from __future__ import annotations

from typing import Any

import yaml

from tvm_vacc.errors import VaccError


class _StrictLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` less what a config has no use for and an attacker has."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases: a few hundred bytes of them expand to gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice (YAML keeps the last one silently) or is no text."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"the key {key!r} is no text"
            elif key in seen:
                problem = f"the key {key!r} stands twice"
            else:
                seen.add(key)
                continue
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return super().construct_mapping(node, deep)


# YAML 1.1 turns 2026-11-23 into a date object: here it is the text it looks like.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, *, where: str, error: type[VaccError]) -> Any:
    """Parse one YAML document.

    Args:
        text: the document.
        where: what the error message begins with: the file.
        error: class to raise.

    Raises:
        VaccError: of class `error`, naming `where` and the line.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise error(f"{where}: {line}{problem.problem}", "correct the YAML") from problem
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as problem:
        raise error(f"{where}: not valid YAML ({problem})", "correct the YAML") from problem
