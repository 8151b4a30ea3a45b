"""What routes work with, made once at start and handed to them by FastAPI."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from typing import Annotated, cast

from fastapi import Depends, Request

from ktrdr.contracts import Version
from ktrdr.database.pool import Pool
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.operations.feed import ChangeFeed
from ktrdr.operations.store import OperationStore
from ktrdr.settings import BackendSettings


@dataclass(frozen=True)
class State:
    """The backend's parts."""

    settings: BackendSettings
    pool: Pool
    operations: OperationStore
    registry: WorkerRegistry
    feed: ChangeFeed
    started: float = field(default_factory=time.monotonic)

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
