"""Secrets in an item of 1Password, read with its command-line program `op`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from ktrdr.deployment.secrets.plaintext import Entries, unique_fields
from ktrdr.deployment.secrets.program import ProgramSource
from ktrdr.errors import ErrorPattern, SecretsError
from ktrdr.secret import Secret

# Secrets are CONCEALED. A user name is a STRING by default. The two types differ in how the app
# shows them, not in who may read them.
_TYPES: Final = ("CONCEALED", "STRING")
# `op` 2 exits with 1 for every error. Only its messages distinguish the errors, and versions word
# them differently. A cause stands before its consequences.
_ERRORS: Final = (
    ErrorPattern(
        r"(?i)authorization (prompt dismissed|timeout)",
        "1Password's prompt was dismissed or not answered in time",
        "Run the command again and allow the access.",
    ),
    ErrorPattern(
        r"(?i)multiple accounts",
        "op does not know which of several 1Password accounts to use",
        "Set secrets.account in the inventory to an address or ID that `op account list` shows.",
    ),
    ErrorPattern(
        r"(?i)no accounts? (configured|(was |were )?found)|found no account",
        "op has no 1Password account{account}",
        "Switch on the app's CLI integration, run `op account add`, set OP_SERVICE_ACCOUNT_TOKEN, "
        "or correct secrets.account in the inventory: see `op account list`.",
    ),
    ErrorPattern(
        r"(?i)desktop app|1Password app|connectionreset",
        "op cannot reach the 1Password app",
        "Start the app, and switch on Settings > Developer > Integrate with 1Password CLI.",
    ),
    ErrorPattern(
        r"(?i)(not|n't) (currently |been )?(signed|logged) in|signed out|sign in|session.* expired",
        "1Password is not signed in, or its session has expired",
        "Unlock the 1Password app (with its CLI integration switched on), or run `eval $(op "
        "signin)`, and run the command again.",
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


class _Field(BaseModel):
    """Field of an item as `op` prints it."""

    type: str = ""
    label: str = ""
    value: object = ""


class _Item(BaseModel):
    """Item as `op` prints it."""

    fields: list[_Field]


@dataclass(frozen=True)
class OnePassword(ProgramSource):
    """Source that reads an item with `op`, whose environment decides how it signs in.

    The 1Password app, a service account (``OP_SERVICE_ACCOUNT_TOKEN``) and a Connect server
    (``OP_CONNECT_HOST``, ``OP_CONNECT_TOKEN``) all work: `op` inherits the environment unchanged.

    Attributes:
        vault: Name or id of the vault; None to search all of the account.
        item: Name or id of the item in it that has all fields.
        account: Address or id of the account; None for the one that `op` chooses.
    """

    _install_hint = "Install the 1Password CLI, version 2, or choose another secrets.source."
    _errors = _ERRORS

    vault: str | None
    item: str
    account: str | None = None

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`. Text fields count as secret, too.

        Raises:
            SecretsError: `op` is missing, fails, is too slow, or prints no valid item; or two
                fields of the item have the same label.
        """
        chosen = {"--vault": self.vault, "--account": self.account}
        options = [word for name, value in chosen.items() if value for word in (name, value)]
        output = self._run(
            *("op", "item", "get", self.item, *options, "--format", "json"),
            names={
                "vault": self.vault or "",
                "item": self.item,
                "place": f'the vault "{self.vault}"' if self.vault else "this 1Password account",
                "account": f' "{self.account}"' if self.account else "",
            },
        )
        entries = _parse_item(output)
        if not entries:
            raise SecretsError(
                f'op printed no fields of the item "{self.item}", or no valid JSON',
                hint="Check `op --version`: version 2 is needed.",
            )
        return unique_fields(entries, f'the item "{self.item}"', self.fields)


def _parse_item(output: Secret) -> Entries:
    """Return the fields of an item by label, or an empty list if the output is no item."""
    # The error contains the whole text. Suppressed here, it is no cause of a later error.
    with contextlib.suppress(ValueError):
        fields = _Item.model_validate_json(output.reveal()).fields
        return [
            (each.label, Secret(each.value))
            for each in fields
            if each.type in _TYPES and each.label and isinstance(each.value, str)
        ]
    return []
