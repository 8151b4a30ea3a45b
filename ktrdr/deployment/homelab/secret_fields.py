"""Secrets that KTRDR asks for: their names, the rules for each, and their strength."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from pydantic import BaseModel

from ktrdr.errors import SecretsError
from ktrdr.secret import MIN_SCRUBBED_LENGTH, Secret
from ktrdr.tokens import MINIMUM_SECRET_LENGTH

# A secret source may hold more fields.
FIELDS: Final = ("db_username", "db_password", "jwt_secret", "grafana_password", "ghcr_token")
MINIMUM_LENGTHS: Final[Mapping[str, int]] = {
    # RFC 7518, section 3.2: a key as long as the hash, which is SHA-256.
    "jwt_secret": MINIMUM_SECRET_LENGTH,
    # Only ports of the homelab accept these. Twelve random characters cannot be guessed there.
    "db_password": 12,
    "grafana_password": 12,
    # A name is no secret by itself. It is not removed from output.
    "db_username": 1,
}
# A shorter value could not be removed from output.
_MINIMUM_LENGTH: Final = MIN_SCRUBBED_LENGTH
FIX_HINT: Final = "Correct these fields in the vault and run the command again."

# initdb does not accept these characters in the name of the first role, and its configuration
# file has no escape for control characters.
_NOT_IN_ROLES: Final = frozenset("\"$'\\`\n\r\t")
# NAMEDATALEN - 1: PostgreSQL truncates longer names.
_MAX_ROLE_BYTES: Final = 63

# Decimal logarithm of the guesses that a strong value needs. Each guess at a password is a login,
# or costs PostgreSQL's 4,096 rounds: this is the best of zxcvbn's own five scores. Guesses at the
# key need only one token, and no network: 10^24 take 30,000 years at 10^12 a second.
_STRONG_GUESSES_LOG10: Final = {"db_password": 10, "grafana_password": 10, "jwt_secret": 24}
# Longer input makes zxcvbn slow, and a strong value is strong by its beginning.
_MEASURED_LENGTH: Final = 72
# Words that an attacker on KTRDR tries first.
_PRODUCT_WORDS: Final = ("ktrdr", "homelab", "grafana", "postgres", "backend", "jwt", "token")
# `.env.dev.example` publishes values that begin with it.
_PUBLISHED: Final = "development-only"


class FieldReport(BaseModel):
    """Result of the check of a field, without its value.

    Attributes:
        field: Name of the field.
        present: True if the source has it and it is not blank.
        long_enough: True if it has its minimum length.
        usable: True if a deploy accepts it.
        strength: ``strong`` or ``weak``; ``not measured`` for names, for tokens that the registry
            has generated, and for unusable fields.
        remarks: Problems, each as the end of a sentence that begins with the field's name.
    """

    field: str
    present: bool
    long_enough: bool
    usable: bool
    strength: Literal["strong", "weak", "not measured"]
    remarks: tuple[str, ...]


def require_usable_fields(fields: Mapping[str, Secret], names: Iterable[str]) -> None:
    """Raise an error if a field cannot be used.

    Args:
        fields: Fields from the secret source, by name.
        names: Names of the fields that a deploy needs.

    Raises:
        SecretsError: One sentence without a value names every needed field that is missing, blank,
            too short, or contains what an environment variable (NUL, lone surrogates) or PostgreSQL
            does not accept.
    """
    problems = list(filter(None, find_field_problems(fields, names).values()))
    if problems:
        raise SecretsError(
            f"the vault's secrets cannot be used: {'; '.join(problems)}", hint=FIX_HINT
        )


def find_field_problems(
    fields: Mapping[str, Secret], names: Iterable[str]
) -> dict[str, str | None]:
    """Return the problem of each named field, or None if it has none."""
    return {name: _find_problem(name, fields.get(name)) for name in names}


def inspect_fields(fields: Mapping[str, Secret]) -> list[FieldReport]:
    """Check every field that KTRDR asks for.

    Args:
        fields: Fields from the secret source, by name.
    """
    return [_inspect_field(name, fields) for name in FIELDS]


def _find_problem(name: str, secret: Secret | None) -> str | None:
    if secret is None:
        return f"{name} is missing"
    value = secret.reveal()
    minimum = MINIMUM_LENGTHS.get(name, _MINIMUM_LENGTH)
    if not value.strip():
        return f"{name} is empty"
    if "\0" in value:
        return f"{name} contains a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return f"{name} contains half a character (a lone surrogate)"
    if len(value) < minimum:
        return f"{name} is shorter than {minimum} characters"
    return _find_role_problem(name, value) if name == "db_username" else None


def _find_role_problem(name: str, value: str) -> str | None:
    if _NOT_IN_ROLES.intersection(value):
        return f"{name} contains a character that PostgreSQL refuses (\" $ ' \\ ` or a control)"
    if len(value.encode()) > _MAX_ROLE_BYTES:
        return f"{name} is longer than {_MAX_ROLE_BYTES} bytes"
    if value.startswith("pg_"):
        return f"{name} begins with pg_, which PostgreSQL reserves"
    return None


def _inspect_field(name: str, fields: Mapping[str, Secret]) -> FieldReport:
    secret = fields.get(name, Secret(""))
    problem = _find_problem(name, fields.get(name))
    is_measured = name in _STRONG_GUESSES_LOG10 and problem is None
    weaknesses = list(_find_weaknesses(name, fields)) if is_measured else []
    return FieldReport(
        field=name,
        present=bool(secret.reveal().strip()),
        long_enough=len(secret.reveal()) >= MINIMUM_LENGTHS.get(name, _MINIMUM_LENGTH),
        usable=problem is None,
        strength=("weak" if weaknesses else "strong") if is_measured else "not measured",
        remarks=(problem.removeprefix(f"{name} "),) if problem else tuple(weaknesses),
    )


def _find_weaknesses(name: str, fields: Mapping[str, Secret]) -> Iterable[str]:
    secret = fields[name]
    for other in _STRONG_GUESSES_LOG10:
        if other != name and fields.get(other) == secret:
            yield f"is the same as {other}"
    if _PUBLISHED in secret.reveal().lower():
        yield "is published for development"
    elif reason := _guessability(secret, _STRONG_GUESSES_LOG10[name], fields.get("db_username")):
        yield reason


def _guessability(secret: Secret, strong_log10: int, username: Secret | None) -> str | None:
    """Return why a secret is easy to guess, or None if it is not."""
    # Loaded here, because most commands measure nothing.
    from zxcvbn import zxcvbn

    words = [*_PRODUCT_WORDS, *([username.reveal()] if username else [])]
    result = zxcvbn(secret.reveal()[:_MEASURED_LENGTH], user_inputs=words)
    if result["guesses_log10"] >= strong_log10:
        return None
    # One of zxcvbn's own fixed sentences, which quotes nothing of the value.
    warning = result["feedback"]["warning"].rstrip(".")
    return f"is easy to guess ({warning})" if warning else "is easy to guess"
