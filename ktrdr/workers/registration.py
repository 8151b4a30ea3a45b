"""Tells the backend that this worker is there, and where; again whenever it has forgotten."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

import httpx
from pydantic import ValidationError

from ktrdr.schemas import API_PREFIX, Problem, WorkerRegistration
from ktrdr.settings import WorkerSettings
from ktrdr.telemetry import metrics

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
# A backend that checks us every 10 s and has not for this long may have forgotten us.
UNCHECKED_S: Final = 30.0
TIMEOUT_S: Final = 5.0


def pause_before(attempt: int, jitter: Callable[[], float] = random.random) -> float:
    """Seconds to wait before an attempt: doubling from 1 to 30, less up to a half by chance.

    Without the chance, all workers would come at once when a backend comes back.
    """
    longest = min(FIRST_PAUSE_S * 2.0 ** min(attempt, 10), LONGEST_PAUSE_S)
    return longest * (1 - jitter() / 2)


class Registrar:
    """Keeps this worker registered.

    Attributes:
        registered: Whether the backend knows this worker, as far as we know.
        error: Why the last attempt failed, in the backend's words where it had any; else None.
    """

    def __init__(
        self, settings: WorkerSettings, describe: Callable[[], WorkerRegistration]
    ) -> None:
        self._describe = describe
        self._workers = f"{str(settings.ktrdr_api_url).rstrip('/')}{API_PREFIX}/workers"
        self._headers = {"Authorization": f"Bearer {settings.worker_token.reveal()}"}
        self._last_seen = time.monotonic()
        self.registered = False
        self.error: str | None = None

    def seen(self) -> None:
        """Notes that the backend has just checked this worker."""
        self._last_seen = time.monotonic()

    async def keep_registered(self) -> None:
        """Registers, looks itself up when it has not been checked, and so on until cancelled."""
        async with httpx.AsyncClient(headers=self._headers, timeout=TIMEOUT_S) as client:
            attempt = 0
            while True:
                if await self._register(client):
                    attempt = 0
                    await self._until_forgotten(client)
                else:
                    await asyncio.sleep(pause_before(attempt))
                    attempt += 1

    async def deregister(self) -> None:
        """Says good-bye; a backend that is not there finds out by itself."""
        if not self.registered:
            return
        url = f"{self._workers}/{self._describe().worker_id}"
        try:
            async with httpx.AsyncClient(headers=self._headers, timeout=TIMEOUT_S) as client:
                await client.delete(url)
        except httpx.HTTPError as exc:
            logger.info("could not deregister: %s", type(exc).__name__)
        self._set(registered=False, error=None)

    async def _register(self, client: httpx.AsyncClient) -> bool:
        body = self._describe().model_dump(mode="json")
        try:
            answer = await client.post(f"{self._workers}/register", json=body)
        except httpx.HTTPError as exc:
            reason = f"the backend at {self._workers} does not answer ({type(exc).__name__})"
            self._set(registered=False, error=reason)
            return False
        if answer.is_success:
            self.seen()
            self._set(registered=True, error=None)
            return True
        self._set(registered=False, error=_refusal(answer))
        return False

    async def _until_forgotten(self, client: httpx.AsyncClient) -> None:
        url = f"{self._workers}/{self._describe().worker_id}"
        while True:
            silent_s = time.monotonic() - self._last_seen
            await asyncio.sleep(max(UNCHECKED_S - silent_s, 1))
            if time.monotonic() - self._last_seen < UNCHECKED_S:
                continue
            try:
                answer = await client.get(url)
            except httpx.HTTPError:
                continue
            if answer.status_code != httpx.codes.OK:
                return
            self.seen()

    def _set(self, *, registered: bool, error: str | None) -> None:
        if error and error != self.error:
            logger.warning("not registered: %s", error)
        if registered and not self.registered:
            logger.info("registered at %s", self._workers)
        self.registered, self.error = registered, error
        metrics.worker_registered.set(int(registered))


def _refusal(answer: httpx.Response) -> str:
    try:
        detail = Problem.model_validate_json(answer.content).detail
    except ValidationError:
        detail = "no reason given"
    return f"the backend refused with status {answer.status_code}: {detail}"
