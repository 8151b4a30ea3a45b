"""Fields of the vault: their names, rules and strength, and the secret variables made of them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel

from ktrdr.deployment.homelab.hosts import VERIFIER
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.scram import make_verifier
from ktrdr.deployment.hosts.problems import CheckResult, Problem
from ktrdr.deployment.product import REGISTRY_LOGIN, TOKEN_HINT, SecretSource
from ktrdr.errors import SecretsError
from ktrdr.secret import MIN_SCRUBBED_LENGTH, Secret
from ktrdr.tokens import MINIMUM_SECRET_LENGTH, create_node_token

if TYPE_CHECKING:
    from ktrdr.deployment.deploy.plan import Plan

MINIMUM_LENGTHS: Final[Mapping[str, int]] = {
    # RFC 7518, section 3.2: a key as long as the hash, which is SHA-256.
    "jwt_secret": MINIMUM_SECRET_LENGTH,
    # Only ports of the homelab accept these. Twelve random characters cannot be guessed there.
    "db_password": 12,
    "grafana_password": 12,
    # A user name is not confidential. It is not removed from output.
    "db_username": 1,
}
# Linux limits a variable with its name to 128 KiB.
_MAXIMUM_BYTES: Final = 120_000
_FIX_HINT: Final = "Correct these fields in the vault and run the command again."
# White space, and characters that nobody sees, such as a byte order mark.
_BLANK: Final = re.compile(r"[\s\ufeff\u200b\u2060]")

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
# Field of the vault for each variable that is passed on unchanged.
_VAULT_FIELDS: Final[Mapping[str, str]] = {
    "DB_USER": "db_username",
    "DB_PASSWORD": "db_password",
    "JWT_SECRET": "jwt_secret",
    "GF_ADMIN_PASSWORD": "grafana_password",
}
SIGNING_KEY: Final = "jwt_secret"
# A user name is not confidential, and may be a common word in output.
_USER_NAME: Final = "db_username"
REGISTRY_TOKEN: Final = "ghcr_token"  # noqa: S105  # the name of a field, not its value


class SecretFieldReport(BaseModel):
    """Result of the check of a field, without its value.

    Attributes:
        field: Name of the field.
        present: Whether the source has it and it is not blank.
        long_enough: Whether it has its minimum length.
        usable: Whether a deploy accepts it.
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
    problems = {name: why for name in names if (why := _find_problem(name, fields.get(name)))}
    if problems:
        reasons = "; ".join(f"{name} {reason}" for name, reason in problems.items())
        raise SecretsError(
            f"the vault's secrets cannot be used: {reasons}", hint=_fix_hint(problems)
        )


def inspect_field(name: str, fields: Mapping[str, Secret]) -> SecretFieldReport:
    """Check a field.

    Args:
        name: Name of the field.
        fields: All fields from the secret source, by name.
    """
    value = fields.get(name, Secret("")).reveal()
    problem = _find_problem(name, fields.get(name))
    is_measured = name in _STRONG_GUESSES_LOG10 and not problem
    weaknesses = list(_find_weaknesses(name, fields)) if is_measured else []
    blank = _name_blank(value[:1] + value[-1:])
    blanks = [f"begins or ends with {blank}"] if blank else []
    return SecretFieldReport(
        field=name,
        present=bool(value.strip()),
        long_enough=len(value) >= MINIMUM_LENGTHS.get(name, MIN_SCRUBBED_LENGTH),
        usable=not problem,
        strength=("weak" if weaknesses else "strong") if is_measured else "not measured",
        remarks=(problem,) if problem else (*weaknesses, *blanks),
    )


@dataclass(frozen=True, slots=True)
class InventorySecrets:
    """Secrets of an installation: the part of `Product` that reads and derives them.

    Attributes:
        inventory: The inventory.
    """

    inventory: Inventory

    def required_fields(self, plans: Iterable[Plan]) -> tuple[str, ...]:
        """Return the fields of the vault that plans and the further ones that hooks need."""
        needed = [
            field
            for plan in plans
            for variable, field in self._fields_by_variable(plan).items()
            if variable in plan.config.secrets
        ]
        further = self.inventory.secrets.fields
        for_hooks = [name for name in self.inventory.hooks.secrets if name in further]
        return tuple(dict.fromkeys([*needed, SIGNING_KEY, REGISTRY_TOKEN, *for_hooks]))

    def read_secrets(self, source: SecretSource, plans: Sequence[Plan]) -> Mapping[str, Secret]:
        """See `Product.read_secrets`."""
        fields, required = source.fetch(), self.required_fields(plans)
        require_usable_fields(fields, required)
        return {name: fields[name] for name in required}

    def check_secrets(
        self, source: SecretSource, plans: Sequence[Plan]
    ) -> tuple[Sequence[CheckResult], Mapping[str, Secret]]:
        """See `Product.check_secrets`. A weak secret has a note."""
        fields, results = source.fetch(), []
        for name in self.required_fields(plans):
            each = inspect_field(name, fields)
            weak = "is weak: it " if each.strength == "weak" else ""
            text = f"{each.field} {weak}{' and '.join(each.remarks)}" if each.remarks else ""
            problem = Problem(text, _fix_hint([each.field]), SecretsError.exit_code)
            results.append(
                CheckResult(each.field, note=text)
                if each.usable
                else CheckResult(each.field, problems=(problem,))
            )
        return results, {name: secret for name, secret in fields.items() if name != _USER_NAME}

    def registry_login(self, fields: Mapping[str, Secret]) -> Secret | None:
        """See `Product.registry_login`. The value is that of ``DOCKER_AUTH_CONFIG``."""
        token = fields.get(REGISTRY_TOKEN)
        if token is None or _find_problem(REGISTRY_TOKEN, token):
            return None
        login = f"{self.inventory.registry_user}:{token.reveal()}".encode()
        auths = {self.inventory.registry: {"auth": base64.b64encode(login).decode()}}
        return Secret(json.dumps({"auths": auths}))

    def secret_values(
        self, fields: Mapping[str, Secret], plan: Plan, *, now: datetime
    ) -> Mapping[str, Secret]:
        """See `Product.secret_values`. A worker's token is valid from now."""
        names = self._fields_by_variable(plan)
        known = {name: fields[field] for name, field in names.items() if field in fields}
        values = {name: known[name] for name in plan.config.secrets if name in known}
        if "WORKER_TOKEN" in plan.config.secrets:
            values["WORKER_TOKEN"] = create_node_token(
                fields[SIGNING_KEY], plan.host.network_name, now=now
            )
        if VERIFIER in plan.config.apply_secrets:
            values[VERIFIER] = make_verifier(
                known["DB_USER"], known["DB_PASSWORD"], key=fields[SIGNING_KEY]
            )
        login = self.registry_login(fields)
        return {**values, **({REGISTRY_LOGIN: login} if login else {})}

    def secrets_to_scrub(
        self,
        fields: Mapping[str, Secret],
        values: Iterable[Mapping[str, Secret]],
        plans: Iterable[Plan],
    ) -> tuple[Secret, ...]:
        """See `Product.secrets_to_scrub`.

        The database's user name is left out if it is a common word, such as ``ktrdr``. Its removal
        would make the output illegible, and the gaps would reveal it.
        """
        common = " ".join(
            f"postgres {plan.host.project} {plan.host.address} {plan.host.network_name} "
            + " ".join(f"{each.name} {each.image}" for each in plan.expected)
            for plan in plans
        )
        return tuple(
            secret
            for mapping in (fields, *values)
            for name, secret in mapping.items()
            if name not in (_USER_NAME, "DB_USER") or secret.reveal() not in common
        )

    def _fields_by_variable(self, plan: Plan) -> dict[str, str]:
        further = self.inventory.secrets.fields.items()
        stack = plan.host.stack
        return {**_VAULT_FIELDS, **{f.variable: name for name, f in further if stack in f.stacks}}


def _fix_hint(names: Iterable[str]) -> str:
    return f"{_FIX_HINT} {TOKEN_HINT}" if REGISTRY_TOKEN in names else _FIX_HINT


def _find_problem(name: str, secret: Secret | None) -> str:
    """Return why a field cannot be used, as a predicate; empty if it can be."""
    if secret is None:
        return "is missing"
    value = secret.reveal()
    minimum = MINIMUM_LENGTHS.get(name, MIN_SCRUBBED_LENGTH)
    if not value.strip():
        return "is empty"
    if "\0" in value:
        return "contains a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "contains half a character (a lone surrogate)"
    if len(value) < minimum:
        return f"is shorter than {minimum} characters"
    if len(value.encode()) > _MAXIMUM_BYTES:
        return f"is longer than {_MAXIMUM_BYTES} bytes, so no variable can hold it"
    if name == REGISTRY_TOKEN and (blank := _name_blank(value)):
        return f"contains {blank}, which no token does"
    if name == REGISTRY_TOKEN and value.startswith("github_pat_"):
        return "is a fine-grained token (github_pat_…), which GHCR refuses"
    return _find_role_problem(value) if name == _USER_NAME else ""


def _name_blank(text: str) -> str:
    """Return the name of the white space in a text, or an empty string if there is none."""
    blanks = _BLANK.findall(text)
    name = "a line end" if {"\r", "\n"}.intersection(blanks) else "white space"
    return name if blanks else ""


def _find_role_problem(value: str) -> str:
    if _NOT_IN_ROLES.intersection(value):
        return "contains a character that PostgreSQL refuses (\" $ ' \\ ` or a control)"
    if len(value.encode()) > _MAX_ROLE_BYTES:
        return f"is longer than {_MAX_ROLE_BYTES} bytes"
    return "begins with pg_, which PostgreSQL reserves" if value.startswith("pg_") else ""


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
    # Imported here, because it is slow and most commands measure nothing.
    from zxcvbn import zxcvbn

    words = [*_PRODUCT_WORDS, *([username.reveal()] if username else [])]
    result = zxcvbn(secret.reveal()[:_MEASURED_LENGTH], user_inputs=words)
    if result["guesses_log10"] >= strong_log10:
        return None
    # One of zxcvbn's own fixed sentences, which quotes nothing of the value.
    warning = result["feedback"]["warning"].rstrip(".")
    return f"is easy to guess ({warning})" if warning else "is easy to guess"
