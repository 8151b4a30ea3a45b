"""What every secret must be before anything is touched: all complaints at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ktrdr.errors import SecretsError
from ktrdr.secret import SHORTEST_SCRUBBED, Secret
from ktrdr.tokens import MINIMUM_SECRET_LENGTH

MINIMUM_LENGTHS: Final[Mapping[str, int]] = {
    # RFC 7518, section 3.2: a key as long as the hash, which is SHA-256.
    "jwt_secret": MINIMUM_SECRET_LENGTH,
    # These guard ports of the homelab alone, where twelve random characters cannot be guessed.
    "db_password": 12,
    "grafana_password": 12,
    # A name is no secret by itself and is not scrubbed from output.
    "db_username": 1,
}
# What initdb does not take in the name of a database's first role, and what no line of its
# configuration can hold.
_NOT_IN_ROLES: Final = frozenset("\"$'\\`\n\r\t")
# NAMEDATALEN - 1: PostgreSQL cuts what is longer.
_LONGEST_ROLE: Final = 63
CORRECT: Final = "Correct these fields in the vault and run the command again."
# What is shorter could not be scrubbed from output.
_MINIMUM_LENGTH: Final = SHORTEST_SCRUBBED


def check(fields: Mapping[str, Secret], wanted: Iterable[str]) -> None:
    """Refuses secrets that cannot be used.

    Args:
        fields: What the vault gave, by label.
        wanted: The labels a deploy needs; others are not looked at.

    Raises:
        SecretsError: Names every wanted field that is missing, blank, too short, or holds what an
            environment variable (NUL, lone surrogates) or PostgreSQL cannot, in one sentence,
            without a value.
    """
    complaints = list(filter(None, complaints_of(fields, wanted).values()))
    if complaints:
        raise SecretsError(
            f"the vault's secrets cannot be used: {'; '.join(complaints)}", hint=CORRECT
        )


def complaints_of(fields: Mapping[str, Secret], wanted: Iterable[str]) -> dict[str, str | None]:
    """What is wrong with each wanted field; None where it is well. See `check`."""
    return {label: complaint(label, fields.get(label)) for label in wanted}


def complaint(label: str, secret: Secret | None) -> str | None:
    """Why a secret cannot be used, as a sentence without its full stop; None where it can."""
    if secret is None:
        return f"{label} is missing"
    value = secret.reveal()
    minimum = MINIMUM_LENGTHS.get(label, _MINIMUM_LENGTH)
    if not value.strip():
        return f"{label} is empty"
    if "\0" in value:
        return f"{label} holds a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return f"{label} holds half a character (a lone surrogate)"
    if len(value) < minimum:
        return f"{label} is shorter than {minimum} characters"
    return _complaint_of_role(label, value) if label == "db_username" else None


def _complaint_of_role(label: str, value: str) -> str | None:
    if _NOT_IN_ROLES.intersection(value):
        return f"{label} holds a character that PostgreSQL does not take (\" $ ' \\ ` or a control)"
    if len(value.encode()) > _LONGEST_ROLE:
        return f"{label} is longer than {_LONGEST_ROLE} bytes"
    if value.startswith("pg_"):
        return f"{label} begins with pg_, which PostgreSQL keeps for itself"
    return None
