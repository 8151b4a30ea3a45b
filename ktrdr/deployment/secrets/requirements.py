"""What every secret must be before anything is touched: all complaints at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret
from ktrdr.tokens import MINIMUM_SECRET_LENGTH

# jwt_secret: RFC 7518, section 3.2 wants a key as long as SHA-256's output. The passwords guard
# ports that only the homelab reaches; twelve random characters are out of reach of guessing there.
MINIMUM_LENGTHS: Final[Mapping[str, int]] = {
    "jwt_secret": MINIMUM_SECRET_LENGTH,
    "db_password": 12,
    "grafana_password": 12,
}


def check(fields: Mapping[str, Secret], wanted: Iterable[str]) -> None:
    """Refuses secrets that cannot be used.

    Args:
        fields: What the vault gave, by label.
        wanted: The labels a deploy needs; others are not looked at.

    Raises:
        SecretsError: Names every wanted field that is missing, empty, too short, or holds a NUL
            character (which no environment variable can), in one sentence and without any value.
    """
    complaints = [
        complaint for label in wanted if (complaint := _complaint(label, fields.get(label)))
    ]
    if complaints:
        raise SecretsError(
            f"the vault's secrets cannot be used: {'; '.join(complaints)}",
            hint="Correct these fields in the vault and run the command again.",
        )


def _complaint(label: str, secret: Secret | None) -> str | None:
    if secret is None:
        return f"{label} is missing"
    value = secret.reveal()
    minimum = MINIMUM_LENGTHS.get(label, 1)
    if not value.strip():
        return f"{label} is empty"
    if "\0" in value:
        return f"{label} holds a NUL character"
    if len(value) < minimum:
        return f"{label} is shorter than {minimum} characters ({len(value)})"
    return None
