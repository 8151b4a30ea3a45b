"""Reader of YAML that remembers the line of every key and item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

KeyPath = tuple[str, ...]


class YamlFault(Exception):
    """Error in a YAML document.

    Attributes:
        line: Line of the error, counted from 1.
        reason: Description of the error, as the rest of a sentence.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True)
class YamlDocument:
    """Plain data, with the line of each key and item."""

    data: Any
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Return the line of the value or, if it is missing, of the nearest value around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_yaml(text: str, name: str, *, aliases: bool = True) -> YamlDocument:
    """Return the content of one YAML document; an empty text is an empty mapping.

    Args:
        text: Text of the document.
        name: Name of the document in error messages.
        aliases: True to allow ``*name`` as a copy of the value marked ``&name``. Reject aliases in
            untrusted text: a few lines can expand to more than fits into memory.

    Raises:
        YamlFault: The text is not valid YAML, or contains values that are not plain data.
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
        raise YamlFault(1, "this is not YAML: it contains a character that is not text") from exc
    except RecursionError as exc:
        raise YamlFault(1, "this is nested too deeply") from exc
    except (ValueError, ArithmeticError) as exc:
        # PyYAML passes `\UFFFFFFFF` to chr(), and a version of 5,000 digits to int().
        raise YamlFault(1, "this is not YAML: it contains a number that is too large") from exc
    return YamlDocument(data, lines)


def dotted(path: KeyPath) -> str:
    """Return a path in dotted notation."""
    return ".".join(path)


def kind_of(value: Any) -> str:
    """Describe the type of a value, for the end of "must be …, not …"."""
    if value is None:
        return "empty"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return next((text for kind, text in names.items() if isinstance(value, kind)), "keys")


def _refuse_aliases(text: str) -> None:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise YamlFault(
                line, f"*{event.anchor} is an alias, which is not allowed: write the value out"
            )


def _plain(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str) -> Any:
    """Return the node as plain data, and record the lines of its keys and items."""
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            lines[*path, str(index)] = item.start_mark.line + 1
            items.append(_plain(item, (*path, str(index)), lines, name))
        return items
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, name)
    return _scalar(node)


def _mapping(
    node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int], name: str
) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlFault(line, "a key must be text")
        # Use the text itself: YAML would read a key called N as "no".
        key = str(key_node.value)
        inner = (*path, key)
        if key in mapping:
            raise YamlFault(
                line, f"{dotted(inner)} is defined twice (first at {name}:{lines[inner]})"
            )
        lines[inner] = line
        mapping[key] = _plain(value_node, inner, lines, name)
    return mapping


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.constructor.ConstructorError as exc:
        raise YamlFault(node.start_mark.line + 1, str(exc.problem)) from exc
    except ValueError as exc:
        raise YamlFault(node.start_mark.line + 1, str(exc)) from exc
    except (ArithmeticError, LookupError, AttributeError, TypeError) as exc:
        # PyYAML fails in many ways on wrong tags, such as `!!int ""`, and on huge 1:30:15.5.
        raise YamlFault(
            node.start_mark.line + 1, f"{node.value!r} does not fit its tag {node.tag}"
        ) from exc
    finally:
        loader.dispose()
