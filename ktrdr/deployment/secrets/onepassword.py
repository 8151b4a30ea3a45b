"""Secrets in an item of 1Password, read with its command-line program `op`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ktrdr.deployment.secrets.program import (
    PROMPT_TIMEOUT_S,
    ErrorPattern,
    ProgramResult,
    match_error,
    read_output,
)
from ktrdr.errors import SecretsError, last_line
from ktrdr.secret import Scrubber, Secret

# Secrets are CONCEALED. A user name is a STRING by default. The two types differ in how the app
# shows them, not in who may read them.
_TYPES: Final = ("CONCEALED", "STRING")
_PREFIX: Final = re.compile(r"^\[ERROR\] (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )?")
_QUOTED: Final = re.compile(r'"[^"\n]*"')
# Variables of `op` with credentials. They are removed from its messages.
_CREDENTIALS: Final = ("OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN", "OP_SESSION")
_SIGN_IN: Final = (
    "Unlock the 1Password app (with its CLI integration switched on), or run `eval $(op signin)`, "
    "and run the command again."
)
# `op` 2 exits with 1 for every error. Only its messages distinguish the errors, and versions word
# them differently. A cause stands before its consequences.
_ERRORS: Final = (
    ErrorPattern(
        r"(?i)session (has )?expired",
        "the 1Password session has expired",
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
        r"(?i)No accounts configured",
        "no 1Password account is configured for op",
        "Switch on the app's CLI integration, run `op account add`, or set "
        "OP_SERVICE_ACCOUNT_TOKEN.",
    ),
    ErrorPattern(
        r"(?i)multiple accounts",
        "op does not know which of several 1Password accounts to use",
        "Set secrets.account in the inventory to an address or ID that `op account list` shows.",
    ),
    ErrorPattern(
        r"(?i)no accounts? (was |were )?found|found no account",
        "op has no 1Password account {account}",
        "Correct secrets.account in the inventory, or OP_ACCOUNT: see `op account list`.",
    ),
    ErrorPattern(
        r"(?i)desktop app|1Password app|connectionreset",
        "op cannot reach the 1Password app",
        "Start the app, and switch on Settings > Developer > Integrate with 1Password CLI.",
    ),
    ErrorPattern(
        r"(?i)(not|n't) (currently |been )?(signed|logged) in|signed out|please sign in",
        "1Password is not signed in",
        _SIGN_IN,
    ),
    ErrorPattern(
        r"(?i)isn't a vault|vault not found",
        'this 1Password account has no vault "{vault}"',
        "Look at `op vault list`: correct the vault in the inventory, or give this account access.",
    ),
    ErrorPattern(
        r"(?i)More than one (item|vault) matches",
        'more than one item or vault matches "{item}" of {place}',
        "Rename all but one, or put the right one's id into the inventory.",
    ),
    ErrorPattern(
        r"(?i)a vault query must be provided",
        "a service account of 1Password needs the name of the vault",
        "Set secrets.vault in the inventory.",
    ),
    ErrorPattern(
        r"(?i)Too many requests|rate.limit",
        "1Password has reached its rate limit for this account",
        "Wait some minutes; a service account may read 1,000 times an hour.",
    ),
    ErrorPattern(
        r"(?i)dial tcp|no such host|i/o timeout|network is unreachable|TLS handshake",
        "op cannot reach 1Password's servers",
        "Check this machine's network, and OP_CONNECT_HOST if you use a Connect server.",
    ),
    ErrorPattern(
        r"(?i)unauthorized|forbidden|aren't authorized|invalid .*token|DecodeSACredentials",
        '1Password does not let this account or token read "{item}"',
        "Correct OP_SERVICE_ACCOUNT_TOKEN or OP_CONNECT_TOKEN, or give it access to the vault.",
    ),
    ErrorPattern(
        r"(?i)isn't an item|not found|(no|find) item",
        '{place} has no item "{item}"',
        "Look at `op item list`, and correct item, vault or account in the inventory.",
    ),
)


class _Field(NamedTuple):
    """Field of an item, and the section that it is in."""

    label: str
    value: Secret
    section: str


@dataclass(frozen=True)
class OnePassword:
    """Source that reads an item with `op`, whose environment decides how it signs in.

    The 1Password app, a service account (``OP_SERVICE_ACCOUNT_TOKEN``) and a Connect server
    (``OP_CONNECT_HOST``, ``OP_CONNECT_TOKEN``) all work: `op` inherits the environment unchanged.

    Attributes:
        vault: Name or id of the vault; None to search all of the account.
        item: Name or id of the item in it that has all fields.
        account: Address or id of the account; None for the one that `op` chooses.
        executable: Name or path of `op`, version 2.
        timeout_s: Maximum duration of the call, including a person's answer to a prompt (s).
        environment: Environment of `op`.
    """

    vault: str | None
    item: str
    account: str | None = None
    executable: str = "op"
    timeout_s: float = PROMPT_TIMEOUT_S
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`. Text fields count as secret, too.

        Raises:
            SecretsError: `op` is missing, fails, is too slow, or prints no valid item; or two
                fields of the item have the same label.
        """
        output = read_output(
            (self.executable, *self._arguments),
            environment=self.environment,
            timeout_s=self.timeout_s,
            install_hint="Install the 1Password CLI, version 2, or choose another secrets.source.",
            explain=self._explain,
        )
        fields = _parse_fields(output)
        if not fields:
            raise SecretsError(
                f'op printed no fields of the item "{self.item}", or no valid JSON',
                hint="Check `op --version`: version 2 is needed.",
            )
        _require_unique_labels(self.item, fields)
        return {each.label: each.value for each in fields}

    @property
    def _arguments(self) -> tuple[str, ...]:
        chosen = {"--vault": self.vault, "--account": self.account}
        options = [word for pair in chosen.items() for word in pair if pair[1] and word]
        return ("item", "get", self.item, *options, "--format", "json")

    def _explain(self, result: ProgramResult) -> SecretsError:
        vault, account = self.vault, self.account
        names = {
            "vault": vault or "",
            "item": self.item,
            "place": f'the vault "{vault}"' if vault else "this 1Password account",
            "account": f'"{account}"' if account else "of that name",
        }
        text = result.stderr.reveal()
        # A name that op quotes may consist of any words.
        if known := match_error(_ERRORS, Secret(_QUOTED.sub('""', text)), names):
            return known
        credentials = (v for k, v in self.environment.items() if k.startswith(_CREDENTIALS))
        shown = Scrubber(map(Secret, credentials)).scrub(text)
        return SecretsError(
            f"op failed: {_PREFIX.sub('', last_line(shown))}",
            hint=f"Run `op {shlex.join(self._arguments)} </dev/null` by hand.",
        )


def _parse_fields(output: Secret) -> list[_Field]:
    """Return the fields of an item as `op` prints it, or an empty list if it is invalid."""
    # The parser's error contains the whole text. Suppressed here, it is no cause of a later error.
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(output.reveal())
        entries = document.get("fields") if isinstance(document, dict) else None
        if isinstance(entries, list):
            return [each for entry in entries if (each := _parse_field(entry))]
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
    for each in fields:
        sections.setdefault(each.label, []).append(each.section)
    duplicates = [
        f"{label} (in {' and in '.join(names)})" for label, names in sections.items() if names[1:]
    ]
    if duplicates:
        raise SecretsError(
            f'the item "{item}" has fields of the same name: {"; ".join(duplicates)}',
            hint="Rename or remove all but one of them in the vault.",
        )
