"""Parser of a decrypted document: a flat mapping, as YAML or JSON.

No error may quote the document. Errors of the parsers are suppressed where they occur. Messages
name only lines, and fields that the caller asked for.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

import yaml

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

# Keys with their values, or with None if a value is neither text nor null.
Entries = list[tuple[str, Secret | None]]

_TEXT: Final = "tag:yaml.org,2002:str"
_NULL: Final = "tag:yaml.org,2002:null"


def parse_fields(
    plaintext: Secret, origin: str, fields: Collection[str], *, is_json: bool = False
) -> Mapping[str, Secret]:
    """Parse a decrypted document. Leave out keys whose value is not text.

    Args:
        plaintext: The document.
        origin: Description of the document, for error messages.
        fields: Names that must be unique and text if they occur.
        is_json: Whether YAML is refused: any message of a program is YAML.

    Raises:
        SecretsError: The document is not a mapping, or one of these fields occurs twice or is not
            text.
    """
    entries: Entries | str | None = _json_entries(plaintext)
    if entries is None:
        entries = "is not a JSON object" if is_json else _yaml_entries(plaintext)
    if isinstance(entries, str):
        form = '{"db_password": "…"}' if is_json else "db_password: …"
        raise SecretsError(
            f"{origin} {entries}",
            hint=f"It must be a mapping of fields to texts, such as `{form}`, and nothing else.",
        )
    return unique_fields(entries, origin, fields)


def unique_fields(entries: Entries, origin: str, fields: Collection[str]) -> Mapping[str, Secret]:
    """Return the entries that are text.

    Raises:
        SecretsError: One of these fields occurs twice or is not text.
    """
    counts = Counter(name for name, _ in entries)
    problems = [
        f"{name} occurs {counts[name]} times" if counts[name] > 1 else f"{name} is not text"
        for name in fields
        if counts[name] > 1 or (name, None) in entries
    ]
    if problems:
        raise SecretsError(
            f"{origin} cannot be used: {'; '.join(problems)}",
            hint="Keep one entry for each field, with a text as its value (in YAML, in quotes).",
        )
    return {name: value for name, value in entries if value is not None}


def _json_entries(plaintext: Secret) -> Entries | None:
    """Return the entries of a JSON object, or None for any other document."""
    # The parser's error contains the whole text. Suppressed here, it is no cause of a later error.
    with contextlib.suppress(ValueError, RecursionError):
        # Programs of Windows begin with a byte order mark.
        text = plaintext.reveal().removeprefix("\ufeff")
        document = json.loads(text, object_pairs_hook=_Object)
        if isinstance(document, _Object):
            return [
                (key, Secret(value or "") if isinstance(value, str | None) else None)
                for key, value in document
            ]
    return None


class _Object(list[tuple[str, Any]]):
    """JSON object with all its keys, including duplicates."""


def _yaml_entries(plaintext: Secret) -> Entries | str:
    """Return the entries of a YAML mapping, or the reason why it is none, as a predicate."""
    line = 1
    try:
        # Compose only: no tag constructs an object, and an alias stays one node.
        root = yaml.compose(plaintext.reveal(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
    except (yaml.YAMLError, RecursionError, ValueError, ArithmeticError):
        # PyYAML passes "\\UFFFFFFFF" and the like to chr(), which raises.
        pass
    else:
        if isinstance(root, yaml.MappingNode):
            return [_yaml_entry(key, value) for key, value in root.value]
        return "is empty" if root is None else "is not a mapping of keys to values"
    return f"is neither YAML nor JSON (line {line})"


def _yaml_entry(key: yaml.Node, value: yaml.Node) -> tuple[str, Secret | None]:
    name = key.value if isinstance(key, yaml.ScalarNode) else ""
    if isinstance(value, yaml.ScalarNode) and value.tag in (_TEXT, _NULL):
        return name, Secret(value.value if value.tag == _TEXT else "")
    return name, None
