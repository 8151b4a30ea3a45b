"""Who is calling, and what they may do. Every route that is not open asks here."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ktrdr.api.state import BackendState
from ktrdr.errors import Forbidden, SecretsError
from ktrdr.fleet.registry import node_of
from ktrdr.schemas import WorkerRegistration
from ktrdr.telemetry import metrics
from ktrdr.tokens import Identity, Role

_bearer = HTTPBearer(auto_error=False, description="A token made by `ktrdr token create`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


async def identify(request: Request, state: BackendState, credentials: Credentials) -> Identity:
    """The caller, as their token says.

    Raises:
        SecretsError: There is no token, or it is not a good one.
        TooManyAttempts: There were too many bad ones from there; this one was not looked at.
    """
    address, now = request.client.host if request.client else "nowhere", time.monotonic()
    state.failed_attempts.check(address, now)
    try:
        return _identity(state, credentials)
    except SecretsError:
        state.failed_attempts.failed(address, now)
        metrics.failed_authentications.inc()
        raise


def _identity(state: BackendState, credentials: HTTPAuthorizationCredentials | None) -> Identity:
    if credentials is None:
        raise SecretsError(
            "this needs a token",
            hint="Send it as `Authorization: Bearer …`; `ktrdr token create` makes one.",
        )
    identity = state.keyring.verify(credentials.credentials, datetime.now(UTC))
    state.revocations.check(identity)
    return identity


Caller = Annotated[Identity, Depends(identify)]


def _requires(*roles: Role) -> Callable[[Identity], Coroutine[Any, Any, Identity]]:
    async def check(caller: Caller) -> Identity:
        if caller.role not in roles:
            raise Forbidden(
                f"a token of role {caller.role} may not do this",
                hint=f"It needs one of role {' or '.join(roles)}.",
            )
        return caller

    return check


Operator = Annotated[Identity, Depends(_requires(Role.OPERATOR))]
WorkerCaller = Annotated[Identity, Depends(_requires(Role.WORKER))]


def require_own_node(caller: Identity, registration: WorkerRegistration) -> None:
    """A worker may only name URLs on the node its token is for: it cannot send us elsewhere.

    Raises:
        Forbidden: The URL's host is another.
    """
    url = registration.endpoint_url
    if node_of(str(url)) != caller.node or url.scheme != "http" or url.path not in (None, "", "/"):
        raise Forbidden(
            f"the worker says it is at {url}, but its token is for {caller.node}",
            hint="WORKER_PUBLIC_BASE_URL must be http://NODE:PORT of the node it was deployed to.",
        )
