"""Secrets in an item of 1Password, read with its command-line program `op`."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ktrdr.deployment.secrets.program import (
    PROMPT_TIMEOUT_S,
    ErrorPattern,
    match_error,
    run_program,
)
from ktrdr.errors import SecretsError, last_line
from ktrdr.secret import Scrubber, Secret

# Secrets are CONCEALED. A user name is a STRING by default. The two types differ in how the app
# shows them, not in who may read them.
_TYPES: Final = ("CONCEALED", "STRING")
_TIMESTAMP: Final = re.compile(r"^\[ERROR\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d ")
# Variables of `op` with credentials. They are removed from its messages.
_CREDENTIALS: Final = ("OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN", "OP_SESSION")
_SIGN_IN: Final = (
    "Unlock the 1Password app (with its CLI integration switched on), or run `eval $(op signin)`, "
    "and run the command again."
)
# `op` 2 exits with 1 for every error. Only its messages distinguish the errors.
_ERRORS: Final = (
    ErrorPattern(
        r"(?i)session expired",
        "the 1Password session has expired",
        _SIGN_IN,
    ),
    ErrorPattern(
        r"(?i)not currently signed in|account is not signed in",
        "1Password is not signed in",
        _SIGN_IN,
    ),
    ErrorPattern(
        r"(?i)authorization prompt dismissed",
        "1Password's prompt was dismissed",
        "Run the command again and allow the access.",
    ),
    ErrorPattern(
        r"(?i)authorization timeout",
        "1Password's prompt was not answered in time",
        "Run the command again and allow the access.",
    ),
    ErrorPattern(
        r"(?i)connecting to desktop app",
        "op cannot reach the 1Password app",
        "Start the app, and switch on Settings > Developer > Integrate with 1Password CLI.",
    ),
    ErrorPattern(
        r"(?i)No accounts configured",
        "no 1Password account is configured for op",
        "Switch on the app's CLI integration, run `op account add`, or set "
        "OP_SERVICE_ACCOUNT_TOKEN.",
    ),
    ErrorPattern(
        r"(?i)isn't an item in the",
        'the vault "{vault}" has no item "{item}"',
        "Look at `op item list --vault '{vault}'`, and correct the item in the inventory.",
    ),
    ErrorPattern(
        r"(?i)isn't a vault in this account",
        'this 1Password account has no vault "{vault}"',
        "Look at `op vault list`: correct the vault in the inventory, or give this account access.",
    ),
    ErrorPattern(
        r"(?i)More than one item matches",
        'more than one item of the vault "{vault}" is called "{item}"',
        "Rename all but one, or put the right one's id into the inventory.",
    ),
    ErrorPattern(
        r"(?i)a vault query must be provided",
        "a service account of 1Password needs the name of the vault",
        "Set secrets.vault in the inventory.",
    ),
    ErrorPattern(
        r"(?i)Too many requests|rate-limited",
        "1Password has reached its rate limit for this account",
        "Wait some minutes; a service account may read 1,000 times an hour.",
    ),
    ErrorPattern(
        r"(?i)dial tcp|no such host|i/o timeout|network is unreachable|TLS handshake",
        "op cannot reach 1Password's servers",
        "Check this machine's network, and OP_CONNECT_HOST if you use a Connect server.",
    ),
)


class _Field(NamedTuple):
    """Field of an item, and the section that it is in."""

    label: str
    value: Secret
    section: str


class OnePassword:
    """Source that reads an item with `op`, whose environment decides how it signs in.

    The 1Password app, a service account (``OP_SERVICE_ACCOUNT_TOKEN``) and a Connect server
    (``OP_CONNECT_HOST``, ``OP_CONNECT_TOKEN``) all work: `op` inherits the environment unchanged.
    """

    def __init__(
        self,
        vault: str,
        item: str,
        *,
        executable: str = "op",
        timeout_s: float = PROMPT_TIMEOUT_S,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Create the source without calling `op`.

        Args:
            vault: Name or id of the vault.
            item: Name or id of the item in it that has all fields.
            executable: Name or path of `op`, version 2.
            timeout_s: Maximum duration of the call, including a person's answer to a prompt (s).
            environment: Environment of `op`.
        """
        self._vault = vault
        self._item = item
        self._executable = executable
        self._timeout_s = timeout_s
        self._environment = environment

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`. Text fields count as secret, too.

        Raises:
            SecretsError: `op` is missing, fails, is too slow, or prints no valid item; or two
                fields of the item have the same label.
        """
        command = ("item", "get", self._item, "--vault", self._vault, "--format", "json")
        result = run_program(
            (self._executable, *command),
            environment=self._environment,
            timeout_s=self._timeout_s,
            install_hint="Install the 1Password CLI, version 2, or choose another secrets.source.",
        )
        if result is None:
            raise SecretsError(
                f"op did not answer within {self._timeout_s:g} s",
                hint="Check whether 1Password waits for your answer to a prompt.",
            )
        if result.exit_code != 0:
            raise self._error(result.stderr)
        fields = _parse_fields(result.stdout)
        if not fields:
            raise SecretsError(
                f'op printed no fields of the item "{self._item}", or no valid JSON',
                hint="Check `op --version`: version 2 is needed.",
            )
        _require_unique_labels(self._item, fields)
        return {field.label: field.value for field in fields}

    def _error(self, stderr: Secret) -> SecretsError:
        names = {"vault": self._vault, "item": self._item}
        if known := match_error(_ERRORS, stderr, names):
            return known
        credentials = (v for k, v in self._environment.items() if k.startswith(_CREDENTIALS))
        shown = Scrubber(map(Secret, credentials)).scrub(stderr.reveal())
        return SecretsError(
            f"op failed: {_TIMESTAMP.sub('', last_line(shown))}",
            hint=f"Run `op item get '{self._item}' --vault '{self._vault}'` by hand.",
        )


def _parse_fields(output: Secret) -> list[_Field]:
    """Return the fields of an item as `op` prints it, or an empty list if it is invalid."""
    # The parser's error contains the whole text. Suppressed here, it is no cause of a later error.
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(output.reveal())
        entries = document.get("fields") if isinstance(document, dict) else None
        if isinstance(entries, list):
            return [field for entry in entries if (field := _parse_field(entry))]
    return []


def _parse_field(entry: object) -> _Field | None:
    if not isinstance(entry, dict) or entry.get("type") not in _TYPES:
        return None
    label, value, section = entry.get("label"), entry.get("value", ""), entry.get("section")
    if not isinstance(label, str) or not label or not isinstance(value, str):
        return None
    name = section.get("label") or section.get("id") if isinstance(section, dict) else None
    return _Field(label, Secret(value), f'section "{name}"' if name else "no section")


def _require_unique_labels(item: str, fields: list[_Field]) -> None:
    sections: dict[str, list[str]] = {}
    for field in fields:
        sections.setdefault(field.label, []).append(field.section)
    duplicates = [
        f"{label} (in {' and in '.join(names)})" for label, names in sections.items() if names[1:]
    ]
    if duplicates:
        raise SecretsError(
            f'the item "{item}" has fields of the same name: {"; ".join(duplicates)}',
            hint="Rename or remove all but one of them in the vault.",
        )
