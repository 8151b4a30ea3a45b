"""Services that routes use, created once at start and injected by FastAPI."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version as installed_version
from typing import Annotated, cast

from fastapi import Depends, Request

from ktrdr.access.audit import AuditTrail
from ktrdr.access.revocations import RevocationList
from ktrdr.access.throttle import AuthenticationThrottle
from ktrdr.database.pool import Pool
from ktrdr.database.probe import DatabaseProbe
from ktrdr.fitness import Fitness
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.operations.change_feed import ChangeFeed
from ktrdr.operations.drain_requests import DrainStore
from ktrdr.operations.shared_directory import SharedDirectory
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import BuildVersion
from ktrdr.settings import BackendSettings
from ktrdr.tokens import Keyring


@dataclass(frozen=True)
class BackendState:
    """Settings and services of the backend."""

    settings: BackendSettings
    pool: Pool
    shared: SharedDirectory
    probe: DatabaseProbe
    fitness: Fitness
    operations: OperationStore
    registry: WorkerRegistry
    change_feed: ChangeFeed
    drains: DrainStore
    audit: AuditTrail
    revocations: RevocationList
    throttle: AuthenticationThrottle
    started_at: float = field(default_factory=time.monotonic)

    @cached_property
    def keyring(self) -> Keyring:
        """Secrets that verify tokens."""
        settings = self.settings
        return Keyring(
            settings.jwt_secret, settings.jwt_secret_previous, settings.jwt_secret_previous_until
        )

    @property
    def version(self) -> BuildVersion:
        """Version of the running backend."""
        return BuildVersion(
            image_tag=self.settings.image_tag,
            commit=self.settings.ktrdr_commit,
            release=installed_version("ktrdr"),
        )


def _get_state(request: Request) -> BackendState:
    return cast("BackendState", request.app.state.ktrdr)


StateDep = Annotated[BackendState, Depends(_get_state)]
