"""Asks the backend for its workers, on behalf of a deploy."""

from __future__ import annotations

from typing import Final

import httpx
from pydantic import TypeAdapter, ValidationError

from ktrdr.contracts import API_PREFIX, Worker
from ktrdr.errors import HostUnreachable, SecretsError
from ktrdr.secret import Secret

_TIMEOUT_S: Final = 5.0
_WORKERS: Final = TypeAdapter(list[Worker])


def registered_workers(api_url: str, token: Secret) -> list[Worker]:
    """All workers that the backend knows.

    Raises:
        HostUnreachable: The backend does not answer, or not with a list of workers.
        SecretsError: It does not accept the token.
    """
    try:
        answer = httpx.get(
            f"{api_url.rstrip('/')}{API_PREFIX}/workers",
            headers={"Authorization": f"Bearer {token.reveal()}"},
            timeout=_TIMEOUT_S,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise HostUnreachable(
            f"the backend at {api_url} does not answer ({type(exc).__name__})",
            hint="Check the address in KTRDR_API_URL, and the network to it.",
        ) from exc
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise SecretsError(
            f"the backend at {api_url} does not accept tokens of this vault's jwt_secret",
            hint="Deploy the backend too, so that both know the same secret.",
        )
    try:
        return _WORKERS.validate_json(answer.raise_for_status().content)
    except (httpx.HTTPStatusError, ValidationError) as exc:
        raise HostUnreachable(
            f"what answers at {api_url} is not this version's backend",
            hint="Check the address in KTRDR_API_URL, or deploy the core first.",
        ) from exc
