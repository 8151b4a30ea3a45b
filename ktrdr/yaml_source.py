"""Reads YAML that people write, and remembers the line of everything in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

KeyPath = tuple[str, ...]


class YamlFault(Exception):
    """This is not YAML, or holds what no plain data can be.

    Attributes:
        line: Where, counted from 1.
        reason: What is wrong there, as the rest of a sentence.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True)
class Written:
    """Plain data, and the line that each of its keys and items stands on."""

    data: Any
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of the value, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_yaml(text: str, name: str, *, aliases: bool = True) -> Written:
    """Reads one YAML document of plain data; nothing at all is an empty mapping.

    Args:
        text: What was written.
        name: What faults call the file.
        aliases: Whether ``*name`` may repeat what ``&name`` marks. Text of strangers may not: a few
            lines of it can stand for more than fits into memory.

    Raises:
        YamlFault: It cannot be read.
    """
    lines: dict[KeyPath, int] = {(): 1}
    try:
        if not aliases:
            _refuse_aliases(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = _plain(root, (), lines, name) if root else {}
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlFault(line, f"this is not YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise YamlFault(1, "this is not YAML: it holds a character that is not text") from exc
    except RecursionError as exc:
        raise YamlFault(1, "this is nested too deeply") from exc
    except (ValueError, ArithmeticError) as exc:
        # PyYAML hands `\UFFFFFFFF` on to chr(), and a version of 5,000 digits on to int().
        raise YamlFault(1, "this is not YAML: it holds a number that is too large") from exc
    return Written(data, lines)


def dotted(path: KeyPath) -> str:
    """A path as people write it."""
    return ".".join(path)


def kind_of(value: Any) -> str:
    """What a value is, for the end of "must be …, not …"."""
    if value is None:
        return "empty"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return next((text for kind, text in names.items() if isinstance(value, kind)), "keys")


def _refuse_aliases(text: str) -> None:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise YamlFault(line, f"*{event.anchor} repeats what stands elsewhere: write it out")


def _plain(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str) -> Any:
    """The node as plain data; notes the line of everything in it."""
    if isinstance(node, yaml.SequenceNode):
        found = []
        for index, item in enumerate(node.value):
            lines[*path, str(index)] = item.start_mark.line + 1
            found.append(_plain(item, (*path, str(index)), lines, name))
        return found
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, name)
    return _scalar(node)


def _mapping(
    node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int], name: str
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlFault(line, "a key must be text")
        # The text itself: YAML would take a key called N for "no".
        key = str(key_node.value)
        inner = (*path, key)
        if key in found:
            raise YamlFault(line, f"{dotted(inner)} stands twice (first on {name}:{lines[inner]})")
        lines[inner] = line
        found[key] = _plain(value_node, inner, lines, name)
    return found


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.constructor.ConstructorError as exc:
        raise YamlFault(node.start_mark.line + 1, str(exc.problem)) from exc
    except ValueError as exc:
        raise YamlFault(node.start_mark.line + 1, str(exc)) from exc
    except (ArithmeticError, LookupError, AttributeError, TypeError) as exc:
        # PyYAML trips over tags that do not fit, such as `!!int ""`, and over huge 1:30:15.5.
        raise YamlFault(
            node.start_mark.line + 1, f"{node.value!r} does not fit its tag {node.tag}"
        ) from exc
    finally:
        loader.dispose()
