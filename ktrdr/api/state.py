"""What routes work with, made once at start and handed to them by FastAPI."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version as installed_version
from typing import Annotated, cast

from fastapi import Depends, Request

from ktrdr.access.audit import AuditTrail
from ktrdr.access.revocations import Revocations
from ktrdr.access.throttle import FailedAttempts
from ktrdr.database.pool import Pool
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.operations.drains import Drains
from ktrdr.operations.feed import ChangeFeed
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import Version
from ktrdr.settings import BackendSettings
from ktrdr.tokens import Keyring


@dataclass(frozen=True)
class State:
    """The backend's parts."""

    settings: BackendSettings
    pool: Pool
    operations: OperationStore
    registry: WorkerRegistry
    feed: ChangeFeed
    drains: Drains
    audit: AuditTrail
    revocations: Revocations
    failed_attempts: FailedAttempts
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def keyring(self) -> Keyring:
        """What tokens may be signed with."""
        settings = self.settings
        return Keyring(
            settings.jwt_secret, settings.jwt_secret_previous, settings.jwt_secret_previous_until
        )

    @property
    def version(self) -> Version:
        """What runs here."""
        return Version(
            image_tag=self.settings.image_tag,
            commit=self.settings.ktrdr_commit,
            release=installed_version("ktrdr"),
        )


def _state(request: Request) -> State:
    return cast("State", request.app.state.ktrdr)


BackendState = Annotated[State, Depends(_state)]
