"""Authentication of callers and their permissions; every route that is not open depends on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ktrdr.api.state import BackendState, StateDep
from ktrdr.errors import Forbidden, SecretsError
from ktrdr.fleet.registry import node_from_url
from ktrdr.schemas import WorkerRegistration
from ktrdr.telemetry import metrics
from ktrdr.tokens import Identity, Role

_bearer = HTTPBearer(auto_error=False, description="A token created by `ktrdr token create`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


async def authenticate(request: Request, state: StateDep, credentials: Credentials) -> Identity:
    """Identify the caller by its token.

    Raises:
        SecretsError: The token is missing, invalid or revoked.
        TooManyAttempts: The address has sent too many bad tokens, so this one is not verified.
    """
    address, now = request.client.host if request.client else "nowhere", time.monotonic()
    state.throttle.check(address, now)
    try:
        return _verify(state, credentials)
    except SecretsError:
        state.throttle.record_failure(address, now)
        metrics.failed_authentications.inc()
        raise


def _verify(state: BackendState, credentials: HTTPAuthorizationCredentials | None) -> Identity:
    if credentials is None:
        raise SecretsError(
            "a token is required",
            hint="Send `Authorization: Bearer …`; create a token with `ktrdr token create`.",
        )
    identity = state.keyring.verify(credentials.credentials, datetime.now(UTC))
    state.revocations.check(identity)
    return identity


Caller = Annotated[Identity, Depends(authenticate)]


def _require_role(*roles: Role) -> Callable[[Identity], Coroutine[Any, Any, Identity]]:
    async def check(caller: Caller) -> Identity:
        if caller.role not in roles:
            raise Forbidden(
                f"a token of role {caller.role} does not permit this",
                hint=f"Use a token of role {' or '.join(roles)}.",
            )
        return caller

    return check


OperatorCaller = Annotated[Identity, Depends(_require_role(Role.OPERATOR))]
WorkerCaller = Annotated[Identity, Depends(_require_role(Role.WORKER))]


async def require_shared_directory(_caller: Caller, state: StateDep) -> None:
    """Reject a request that needs the shared directory while it cannot be used."""
    await state.shared.require()


def require_own_node(caller: Identity, registration: WorkerRegistration) -> None:
    """Reject a registration whose URL is not on the node of the worker's token.

    Otherwise a worker could make the backend send requests to any address.

    Raises:
        Forbidden: The URL names another host, or is not a plain base URL.
    """
    url = registration.endpoint_url
    node = node_from_url(str(url))
    if node != caller.node or url.scheme != "http" or url.path not in (None, "", "/"):
        raise Forbidden(
            f"the worker registers {url}, but its token is for {caller.node}",
            hint="Set WORKER_PUBLIC_BASE_URL to http://NODE:PORT of the worker's own node.",
        )
