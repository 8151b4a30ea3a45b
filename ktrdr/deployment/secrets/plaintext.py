"""The fields in a document that was decrypted: a flat mapping, as YAML or JSON.

Nothing that goes wrong here may quote what was read, so that parsers' errors are dropped where they
arise and a complaint names lines and the fields that KTRDR knows, nothing else.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import yaml

from ktrdr.deployment.secrets.source import FIELDS
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

_TEXT: Final = "tag:yaml.org,2002:str"
_NOTHING: Final = "tag:yaml.org,2002:null"


class _Entry(NamedTuple):
    """One key with its value, which is None where it is neither text nor nothing."""

    key: str
    value: Secret | None


def fields_in(plaintext: Secret, file: str) -> Mapping[str, Secret]:
    """The fields of a decrypted document; keys whose value is not text are left out.

    Args:
        plaintext: The document.
        file: What errors call it.

    Raises:
        SecretsError: It is no flat mapping, or one of KTRDR's fields stands in it twice or is not
            text.
    """
    entries = _json_entries(plaintext) or _yaml_entries(plaintext)
    if isinstance(entries, str):
        raise SecretsError(
            f"what is encrypted in {file} {entries}",
            hint="It must be keys with values, such as `db_password: …`, as YAML or JSON.",
        )
    complaints = list(_complaints(entries))
    if complaints:
        raise SecretsError(
            f"what is encrypted in {file} cannot be used: {'; '.join(complaints)}",
            hint="Keep one of each, in quotes.",
        )
    return {entry.key: entry.value for entry in entries if entry.value is not None}


def _complaints(entries: Iterable[_Entry]) -> Iterable[str]:
    entries = list(entries)
    times = Counter(entry.key for entry in entries)
    unusable = {entry.key for entry in entries if entry.value is None}
    for field in FIELDS:
        if times[field] > 1:
            yield f"{field} stands in it {times[field]} times"
        elif field in unusable:
            yield f"{field} is not text"


def _json_entries(plaintext: Secret) -> list[_Entry] | None:
    """The entries of a JSON object, or None where it is something else."""
    # An error of the parser holds the whole text: it is dropped, lest it become a cause.
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(plaintext.reveal(), object_pairs_hook=_Object)
        if isinstance(found, _Object):
            return [_Entry(key, _json_value(value)) for key, value in found]
    return None


class _Object(list[tuple[str, Any]]):
    """A JSON object with every key that was written, doubled ones too."""


def _json_value(value: Any) -> Secret | None:
    if value is None:
        return Secret("")
    return Secret(value) if isinstance(value, str) else None


def _yaml_entries(plaintext: Secret) -> list[_Entry] | str:
    """The entries of a YAML mapping, or the rest of a sentence that says why there are none."""
    line = 1
    try:
        # Only composed: nothing is made of tags, and an alias stays one node.
        root = yaml.compose(plaintext.reveal(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
    except (yaml.YAMLError, RecursionError, ValueError, ArithmeticError):
        # PyYAML lets "\\UFFFFFFFF" and the like through to chr(), which refuses them.
        pass
    else:
        if isinstance(root, yaml.MappingNode):
            return [_entry(key, value) for key, value in root.value]
        return "is empty" if root is None else "is not keys with values"
    return f"is neither YAML nor JSON (line {line})"


def _entry(key: yaml.Node, value: yaml.Node) -> _Entry:
    name = key.value if isinstance(key, yaml.ScalarNode) else ""
    if isinstance(value, yaml.ScalarNode) and value.tag in (_TEXT, _NOTHING):
        return _Entry(name, Secret(value.value if value.tag == _TEXT else ""))
    return _Entry(name, None)
