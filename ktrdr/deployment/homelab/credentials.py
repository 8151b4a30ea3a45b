"""Turns what is in the vault into what the containers are given."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.host_config import REGISTRY_LOGIN, VERIFIER
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.secrets import requirements, scram
from ktrdr.deployment.secrets.source import SecretSource
from ktrdr.secret import Secret
from ktrdr.tokens import create_node_token

# The vault's field behind each variable that is passed on as it is.
_FIELDS: Final[Mapping[str, str]] = {
    "DB_USER": "db_username",
    "DB_PASSWORD": "db_password",
    "JWT_SECRET": "jwt_secret",
    "GF_ADMIN_PASSWORD": "grafana_password",
}
_SIGNING: Final = "jwt_secret"
_REGISTRY: Final = "ghcr_token"


def fields_for(plan: Plan) -> tuple[str, ...]:
    """The vault's fields that a deploy needs."""
    fields = [_FIELDS[name] for name in plan.site.secrets if name in _FIELDS]
    return tuple(dict.fromkeys([*fields, _SIGNING, _REGISTRY]))


def fetch(source: SecretSource, plans: Sequence[Plan]) -> Mapping[str, Secret]:
    """The fields that deploys need, from one call to the vault, all checked.

    Raises:
        SecretsError: The vault does not give them, or one of them cannot be used.
    """
    found = source.fetch()
    wanted = tuple(dict.fromkeys(name for plan in plans for name in fields_for(plan)))
    requirements.check(found, wanted)
    return {name: found[name] for name in wanted}


def values(
    fields: Mapping[str, Secret], inventory: Inventory, plan: Plan, *, now: datetime
) -> dict[str, Secret]:
    """The variables that the plan's scripts export.

    Args:
        fields: What the vault gave.
        inventory: Where to.
        plan: What is to be deployed.
        now: The present time, which a worker's token depends on.
    """
    known = {name: fields[field] for name, field in _FIELDS.items() if field in fields}
    found = {name: known[name] for name in plan.site.secrets if name in known}
    if "WORKER_TOKEN" in plan.site.secrets:
        found["WORKER_TOKEN"] = create_node_token(fields[_SIGNING], plan.site.host, now=now)
    if VERIFIER in plan.site.derived:
        found[VERIFIER] = scram.verifier(
            known["DB_USER"], known["DB_PASSWORD"], key=fields[_SIGNING]
        )
    found[REGISTRY_LOGIN] = registry_login(inventory, fields[_REGISTRY])
    return found


def registry_login(inventory: Inventory, token: Secret) -> Secret:
    """What Compose reads from ``DOCKER_AUTH_CONFIG``."""
    login = f"{inventory.registry_user}:{token.reveal()}".encode()
    auths = {inventory.registry: {"auth": base64.b64encode(login).decode()}}
    return Secret(json.dumps({"auths": auths}))


def hidden(
    fields: Mapping[str, Secret], values: Iterable[Mapping[str, Secret]], plans: Iterable[Plan]
) -> tuple[Secret, ...]:
    """What is hidden in all that comes back from hosts.

    The database's user name is left out where it is a word of every other line, as ``ktrdr`` is:
    hiding that would make the output illegible, and give it away by its gaps.
    """
    everyday = " ".join(word for plan in plans for word in _everyday_words(plan))
    return tuple(
        secret
        for found in (fields, *values)
        for name, secret in found.items()
        if name not in ("db_username", "DB_USER") or secret.reveal() not in everyday
    )


def _everyday_words(plan: Plan) -> Iterator[str]:
    yield plan.site.project
    yield plan.site.host
    yield "postgres"
    for service in plan.wanted:
        yield service.name
        yield service.image
