"""The vault that is used for real: 1Password, through its own program `op`."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ktrdr.deployment.secrets import program
from ktrdr.errors import SecretsError
from ktrdr.secret import Scrubber, Secret

# CONCEALED is what secrets are stored as. STRING is what 1Password makes of a user name when nobody
# says otherwise; the two differ in how its app shows them, not in who may read them.
_TYPES: Final = ("CONCEALED", "STRING")
_STAMP: Final = re.compile(r"^\[ERROR\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d ")
# The variables of `op` that hold credentials, should it ever quote one.
_CREDENTIALS: Final = ("OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN", "OP_SESSION")
_SIGN_IN: Final = (
    "Unlock the 1Password app (with its CLI integration switched on), or run `eval $(op signin)`, "
    "and run the command again."
)


class _Refusal(NamedTuple):
    """One way in which `op` says no: its words, ours, and what to do."""

    pattern: str
    message: str
    hint: str


# `op` 2 exits with 1 whatever is the matter; only its words tell.
_REFUSALS: Final = (
    _Refusal(
        r"session expired",
        "the 1Password session has expired",
        _SIGN_IN,
    ),
    _Refusal(
        r"not currently signed in|account is not signed in",
        "1Password is not signed in",
        _SIGN_IN,
    ),
    _Refusal(
        r"authorization prompt dismissed",
        "1Password's prompt was dismissed",
        "Run the command again and allow the access.",
    ),
    _Refusal(
        r"authorization timeout",
        "nobody answered 1Password's prompt in time",
        "Run the command again and allow the access.",
    ),
    _Refusal(
        r"connecting to desktop app",
        "op cannot reach the 1Password app",
        "Start the app, and switch on Settings > Developer > Integrate with 1Password CLI.",
    ),
    _Refusal(
        r"No accounts configured",
        "op knows no 1Password account",
        "Switch on the app's CLI integration, run `op account add`, or set "
        "OP_SERVICE_ACCOUNT_TOKEN.",
    ),
    _Refusal(
        r"isn't an item in the",
        'the vault "{vault}" has no item "{item}"',
        "Look at `op item list --vault '{vault}'`, and correct the item in the inventory.",
    ),
    _Refusal(
        r"isn't a vault in this account",
        'this 1Password account has no vault "{vault}"',
        "Look at `op vault list`: correct the vault in the inventory, or give this account access.",
    ),
    _Refusal(
        r"More than one item matches",
        'more than one item of the vault "{vault}" is called "{item}"',
        "Rename all but one, or put the right one's id into the inventory.",
    ),
    _Refusal(
        r"a vault query must be provided",
        "1Password wants to know the vault, which a service account has to name",
        "Name the vault in the inventory.",
    ),
    _Refusal(
        r"Too many requests|rate-limited",
        "1Password takes no more requests from this account for now",
        "Wait some minutes; a service account may read 1,000 times an hour.",
    ),
    _Refusal(
        r"dial tcp|no such host|i/o timeout|network is unreachable|TLS handshake",
        "op cannot reach 1Password's servers",
        "Check this machine's network, and OP_CONNECT_HOST if you use a Connect server.",
    ),
)


class _Field(NamedTuple):
    label: str
    value: Secret
    place: str


class OnePassword:
    """Fetches items with `op`, whose own environment decides how it signs in.

    The 1Password app, a service account (``OP_SERVICE_ACCOUNT_TOKEN``) and a Connect server
    (``OP_CONNECT_HOST``, ``OP_CONNECT_TOKEN``) all work: the environment is passed on untouched.
    """

    def __init__(
        self,
        vault: str,
        item: str,
        *,
        executable: str = "op",
        timeout_s: float = program.PATIENCE_S,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Calls nothing yet.

        Args:
            vault: The name or id of the vault.
            item: The name or id of the item in it that has all fields.
            executable: The name or path of `op`, version 2.
            timeout_s: Seconds that one call may take, a person's answer to a prompt included.
            environment: What `op` is given as its environment.
        """
        self._vault = vault
        self._item = item
        self._executable = executable
        self._timeout_s = timeout_s
        self._environment = environment

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`; text fields count as secret too.

        Raises:
            SecretsError: `op` is missing, refuses, is too slow, or gives what cannot be understood;
                or a label stands in two places of the item.
        """
        fields = _fields(self._get())
        if not fields:
            raise SecretsError(
                f'op gave no fields for the item "{self._item}", or not as JSON that can be '
                "understood",
                hint="Check `op --version`: version 2 is needed.",
            )
        _refuse_doubles(self._item, fields)
        return {field.label: field.value for field in fields}

    def _get(self) -> Secret:
        """What `op` prints of the item."""
        command = ("item", "get", self._item, "--vault", self._vault, "--format", "json")
        answer = program.run(
            (self._executable, *command),
            environment=self._environment,
            timeout_s=self._timeout_s,
            remedy="Install the 1Password CLI, version 2, or choose another secrets.source.",
        )
        if answer is None:
            raise SecretsError(
                f"op did not answer within {self._timeout_s:g} s",
                hint="Check whether 1Password waits for your answer to a prompt.",
            )
        if answer.code != 0:
            raise self._refusal(answer.complaint.reveal())
        return answer.printed

    def _refusal(self, complaint: str) -> SecretsError:
        names = {"vault": self._vault, "item": self._item}
        for refusal in _REFUSALS:
            if re.search(refusal.pattern, complaint, re.IGNORECASE):
                return SecretsError(
                    refusal.message.format(**names), hint=refusal.hint.format(**names)
                )
        lines = [_STAMP.sub("", line).strip() for line in complaint.splitlines()]
        reason = next((line for line in reversed(lines) if line), "it gave no reason")
        return SecretsError(
            f"op refused: {self._without_credentials(reason)}",
            hint=f"Try `op item get '{self._item}' --vault '{self._vault}'` by hand.",
        )

    def _without_credentials(self, text: str) -> str:
        mine = (v for k, v in self._environment.items() if k.startswith(_CREDENTIALS))
        return Scrubber(map(Secret, mine)).text(text)


def _fields(answer: Secret) -> list[_Field]:
    """The fields of an item as `op` prints it; empty when that is not to be understood."""
    # An error of the parser holds the whole text: it is dropped, lest it become a cause.
    with contextlib.suppress(ValueError, RecursionError):
        printed = json.loads(answer.reveal())
        listed = printed.get("fields") if isinstance(printed, dict) else None
        if isinstance(listed, list):
            return [field for entry in listed if (field := _field(entry))]
    return []


def _field(entry: object) -> _Field | None:
    if not isinstance(entry, dict) or entry.get("type") not in _TYPES:
        return None
    label, value, section = entry.get("label"), entry.get("value", ""), entry.get("section")
    if not isinstance(label, str) or not label or not isinstance(value, str):
        return None
    place = section.get("label") or section.get("id") if isinstance(section, dict) else None
    return _Field(label, Secret(value), f'section "{place}"' if place else "no section")


def _refuse_doubles(item: str, fields: list[_Field]) -> None:
    places: dict[str, list[str]] = {}
    for field in fields:
        places.setdefault(field.label, []).append(field.place)
    doubles = [
        f"{label} (in {' and in '.join(where)})" for label, where in places.items() if where[1:]
    ]
    if doubles:
        raise SecretsError(
            f'the item "{item}" has fields of the same name: {"; ".join(doubles)}',
            hint="Rename or remove all but one of them in the vault.",
        )
