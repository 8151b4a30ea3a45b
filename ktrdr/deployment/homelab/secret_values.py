"""Secret variables of the stacks, derived from the fields of the vault."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.hosts import VERIFIER
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.scram import make_verifier
from ktrdr.deployment.homelab.secret_fields import (
    FIX_HINT,
    find_field_problems,
    inspect_fields,
    require_usable_fields,
)
from ktrdr.deployment.hosts.problems import CheckResult, Problem
from ktrdr.deployment.product import REGISTRY_LOGIN
from ktrdr.deployment.secrets.sources import SecretSource
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret
from ktrdr.tokens import create_node_token

# Field of the vault for each variable that is passed on unchanged.
_FIELDS: Final[Mapping[str, str]] = {
    "DB_USER": "db_username",
    "DB_PASSWORD": "db_password",
    "JWT_SECRET": "jwt_secret",
    "GF_ADMIN_PASSWORD": "grafana_password",
}
SIGNING_KEY: Final = "jwt_secret"
# A name is not confidential, and it may be in every other line of output.
_USER_NAME: Final = "db_username"
REGISTRY_TOKEN: Final = "ghcr_token"  # noqa: S105  # the name of a field, not its value


def required_fields(plan: Plan) -> tuple[str, ...]:
    """Return the fields of the vault that a plan needs."""
    fields = [_FIELDS[name] for name in plan.config.secrets if name in _FIELDS]
    return tuple(dict.fromkeys([*fields, SIGNING_KEY, REGISTRY_TOKEN]))


def read_secrets(source: SecretSource, plans: Sequence[Plan]) -> Mapping[str, Secret]:
    """Read the fields that plans need, with one call to the source, and check them.

    Raises:
        SecretsError: A field cannot be read or used.
    """
    fields = source.fetch()
    required = tuple(dict.fromkeys(name for plan in plans for name in required_fields(plan)))
    require_usable_fields(fields, required)
    return {name: fields[name] for name in required}


def check_secrets(
    source: SecretSource, plans: Sequence[Plan]
) -> tuple[Sequence[CheckResult], Mapping[str, Secret]]:
    """Check each field that plans need, with one call to the source.

    Returns:
        The result for each field, with a note for a weak secret, and all confidential fields.

    Raises:
        SecretsError: The source cannot be read.
    """
    fields = source.fetch()
    required = dict.fromkeys(name for plan in plans for name in required_fields(plan))
    weak = {
        each.field: f"{each.field} is weak: it {' and '.join(each.remarks)}"
        for each in inspect_fields(fields)
        if each.strength == "weak"
    }
    results = [
        CheckResult(name, problems=_to_problems(complaint), note=weak.get(name, ""))
        for name, complaint in find_field_problems(fields, required).items()
    ]
    return results, {name: secret for name, secret in fields.items() if name != _USER_NAME}


def usable_registry_token(fields: Mapping[str, Secret]) -> Secret | None:
    """Return the token for the registry, or None if it is missing or cannot be used."""
    token = fields.get(REGISTRY_TOKEN)
    return None if find_field_problems(fields, [REGISTRY_TOKEN])[REGISTRY_TOKEN] else token


def registry_login(registry: str, user: str, token: Secret) -> Secret:
    """Return the value of ``DOCKER_AUTH_CONFIG`` for one registry."""
    login = f"{user}:{token.reveal()}".encode()
    auths = {registry: {"auth": base64.b64encode(login).decode()}}
    return Secret(json.dumps({"auths": auths}))


def secret_values(
    fields: Mapping[str, Secret], inventory: Inventory, plan: Plan, *, now: datetime
) -> dict[str, Secret]:
    """Return the secret variables that a plan's scripts export.

    Args:
        fields: Fields of the vault.
        inventory: The inventory.
        plan: The plan.
        now: The present time, from which a worker's token is valid.
    """
    known = {name: fields[field] for name, field in _FIELDS.items() if field in fields}
    values = {name: known[name] for name in plan.config.secrets if name in known}
    if "WORKER_TOKEN" in plan.config.secrets:
        values["WORKER_TOKEN"] = create_node_token(fields[SIGNING_KEY], plan.host.address, now=now)
    if VERIFIER in plan.config.apply_secrets:
        values[VERIFIER] = make_verifier(
            known["DB_USER"], known["DB_PASSWORD"], key=fields[SIGNING_KEY]
        )
    token = fields[REGISTRY_TOKEN]
    values[REGISTRY_LOGIN] = registry_login(inventory.registry, inventory.registry_user, token)
    return values


def secrets_to_scrub(
    fields: Mapping[str, Secret], values: Iterable[Mapping[str, Secret]], plans: Iterable[Plan]
) -> tuple[Secret, ...]:
    """Return the secrets to remove from all output of hosts.

    The database's user name is left out if it is a common word, such as ``ktrdr``: removing that
    would make the output illegible, and the gaps would give it away.
    """
    common = " ".join(word for plan in plans for word in _common_words(plan))
    return tuple(
        secret
        for mapping in (fields, *values)
        for name, secret in mapping.items()
        if name not in (_USER_NAME, "DB_USER") or secret.reveal() not in common
    )


def _to_problems(complaint: str | None) -> tuple[Problem, ...]:
    if complaint is None:
        return ()
    return (Problem(complaint, FIX_HINT, SecretsError.exit_code),)


def _common_words(plan: Plan) -> Iterator[str]:
    yield plan.host.project
    yield plan.host.address
    yield "postgres"
    for service in plan.expected:
        yield service.name
        yield service.image
