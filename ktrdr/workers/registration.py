"""Registration of this worker at the backend, repeated whenever the backend has forgotten it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

import httpx
from pydantic import ValidationError

from ktrdr.errors import HostNotReady
from ktrdr.schemas import (
    API_PREFIX,
    OperationParameters,
    ProblemDocument,
    Worker,
    WorkerRegistration,
)
from ktrdr.settings import WorkerSettings
from ktrdr.telemetry import metrics

logger = logging.getLogger(__name__)

FIRST_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 30.0
# A worker asks the backend for itself this often.
LOOK_UP_EVERY_S: Final = 8.0
# The backend checks a worker every 10 s. After this time without a check it may have forgotten it.
UNCHECKED_S: Final = 30.0
TIMEOUT_S: Final = 5.0


def registration_delay_s(attempt: int, jitter: Callable[[], float] = random.random) -> float:
    """Return the delay before an attempt: doubling from 1 to 30 s, randomly reduced up to a half.

    Without the randomness, all workers would register simultaneously when a backend returns.
    """
    delay_s = min(FIRST_DELAY_S * 2.0 ** min(attempt, 10), MAX_DELAY_S)
    return delay_s * (1 - jitter() / 2)


async def is_in_catalogue(settings: WorkerSettings, parameters: OperationParameters) -> bool:
    """Return whether the backend has an operation's dataset; True also if it cannot be asked."""
    path = f"{API_PREFIX}/data/{parameters.symbol}/{parameters.timeframe}"
    url = f"{str(settings.ktrdr_api_url).rstrip('/')}{path}"
    headers = {"Authorization": f"Bearer {settings.worker_token.reveal()}"}
    try:
        async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            return (await client.get(url)).status_code != httpx.codes.NOT_FOUND
    except httpx.HTTPError:
        return True


class Registrar:
    """Task that keeps this worker registered.

    Attributes:
        is_registered: True if the backend knows this worker, according to its last answer.
        error: Reason why the last attempt failed, or None.
        unreachable: Why the backend gives this worker no work although it knows it, or None.
    """

    def __init__(
        self, settings: WorkerSettings, describe: Callable[[], WorkerRegistration]
    ) -> None:
        self._describe = describe
        self._workers_url = f"{str(settings.ktrdr_api_url).rstrip('/')}{API_PREFIX}/workers"
        self._headers = {"Authorization": f"Bearer {settings.worker_token.reveal()}"}
        self._last_checked = time.monotonic()
        self.is_registered = False
        self.error: str | None = None
        self.unreachable: str | None = None

    @property
    def problem(self) -> HostNotReady | None:
        """Return why the backend does not know this worker, or cannot reach it, or None."""
        reason = self.error or self.unreachable
        if reason is None and not self.is_registered:
            reason = "this worker has not registered yet"
        hint = "Check KTRDR_API_URL, WORKER_PUBLIC_BASE_URL and the token of this worker."
        return HostNotReady(reason, hint=hint) if reason else None

    def record_health_check(self) -> None:
        """Record that the backend has just checked this worker."""
        self._last_checked = time.monotonic()

    async def run(self) -> None:
        """Keep this worker registered until cancelled."""
        async with self._open_client() as client:
            attempt = 0
            while True:
                if await self._register(client):
                    attempt = 0
                    await self._wait_until_forgotten(client)
                else:
                    await asyncio.sleep(registration_delay_s(attempt))
                    attempt += 1

    async def deregister(self) -> None:
        """Remove this worker; an unreachable backend removes it after failed health checks."""
        if not self.is_registered:
            return
        url = f"{self._workers_url}/{self._describe().worker_id}"
        try:
            async with self._open_client() as client:
                await client.delete(url)
        except httpx.HTTPError as exc:
            logger.info("could not deregister: %s", type(exc).__name__)
        self._set_state(is_registered=False, error=None)

    def _open_client(self) -> httpx.AsyncClient:
        """Return a client that sends the token to no proxy of the environment."""
        return httpx.AsyncClient(headers=self._headers, timeout=TIMEOUT_S, trust_env=False)

    async def _register(self, client: httpx.AsyncClient) -> bool:
        body = self._describe().model_dump(mode="json")
        try:
            response = await client.post(f"{self._workers_url}/register", json=body)
        except httpx.HTTPError as exc:
            reason = f"the backend at {self._workers_url} does not respond ({type(exc).__name__})"
            self._set_state(is_registered=False, error=reason)
            return False
        if response.is_success and self._parse_self(response):
            self.record_health_check()
            self._set_state(is_registered=True, error=None)
            return True
        try:
            detail = ProblemDocument.model_validate_json(response.content).detail
        except ValidationError:
            detail = "no reason given"
        reason = (
            f"the backend rejected the registration with status {response.status_code}: {detail}"
        )
        if response.is_success:
            reason = f"the server at {self._workers_url} is no backend of KTRDR"
        self._set_state(is_registered=False, error=reason)
        return False

    def _parse_self(self, response: httpx.Response) -> Worker | None:
        """Return this worker as the backend sees it, or None if the answer is another."""
        try:
            worker = Worker.model_validate_json(response.content)
        except ValidationError:
            return None
        return worker if worker.worker_id == self._describe().worker_id else None

    async def _wait_until_forgotten(self, client: httpx.AsyncClient) -> None:
        me = self._describe()
        while True:
            await asyncio.sleep(LOOK_UP_EVERY_S * (1 - random.random() / 4))  # noqa: S311  # no secret
            try:
                response = await client.get(f"{self._workers_url}/{me.worker_id}")
            except httpx.HTTPError as exc:
                # A backend that is deployed is away for some seconds.
                if time.monotonic() - self._last_checked > UNCHECKED_S:
                    name = type(exc).__name__
                    self.unreachable = f"the backend at {self._workers_url} is away ({name})"
                continue
            worker = self._parse_self(response) if response.is_success else None
            if worker is None:
                return
            self.unreachable = None
            if worker.endpoint_url.rstrip("/") != str(me.endpoint_url).rstrip("/"):
                self.unreachable = f"another worker has registered as {me.worker_id}"
            elif worker.health_check_failures:
                self.unreachable = f"the backend cannot reach this worker at {me.endpoint_url}"
            else:
                self.record_health_check()

    def _set_state(self, *, is_registered: bool, error: str | None) -> None:
        if error and error != self.error:
            logger.warning("not registered: %s", error)
        if is_registered and not self.is_registered:
            logger.info("registered at %s", self._workers_url)
        self.is_registered, self.error = is_registered, error
        metrics.worker_registered.set(int(is_registered))
