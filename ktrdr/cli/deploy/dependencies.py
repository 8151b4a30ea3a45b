"""The real world of a deploy: vault, ssh, the backend, the operator at the terminal."""

from __future__ import annotations

import getpass
import importlib
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from ktrdr.client.configuration import api_url
from ktrdr.deployment.deploy.plan import Stamp
from ktrdr.deployment.deploy.single_flight import Shared
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.errors import Interrupted, NotFound, UsageError
from ktrdr.secret import Secret
from ktrdr.tokens import Role, create_token

if TYPE_CHECKING:
    from ktrdr.client.backend import Backend
    from ktrdr.schemas import Worker

# Long enough for the longest deploy.
_TOKEN_LIFETIME: Final = timedelta(hours=2)
PERFORMER: Final = "KTRDR_PERFORMER"


def stamp() -> Stamp:
    """A new release's id, with who makes it and when."""
    now = datetime.now(UTC)
    return Stamp(f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}", performer(), now)


def performer() -> str:
    """Who sits here: ``KTRDR_PERFORMER``, or the user and the machine."""
    return os.environ.get(PERFORMER) or f"{getpass.getuser()}@{socket.gethostname()}"


def directory(inventory: Inventory) -> Callable[[Secret], Callable[[], Sequence[Worker]]]:
    """Makes the question for the backend's workers, given what signs the token for it."""
    url = api_url(os.environ, default=inventory.api_url)

    def make(secret: Secret) -> Callable[[], Sequence[Worker]]:
        def workers() -> Sequence[Worker]:
            with _backend(url, secret, Role.READER) as backend:
                return backend.workers()

        return Shared(workers)

    return make


class BackendDrains:
    """Drains nodes through the backend."""

    def __init__(self, url: str, secret: Secret) -> None:
        self._url = url
        self._secret = secret

    def drain(self, node: str) -> None:
        """See `Drains.drain`: what runs is let finish."""
        from ktrdr.schemas import DrainMode

        with self._backend() as backend:
            backend.drain(node, DrainMode.FINISH)

    def undrain(self, node: str) -> None:
        """See `Drains.undrain`."""
        with self._backend() as backend:
            try:
                backend.undrain(node)
            except NotFound:
                return

    def workers(self) -> Sequence[Worker]:
        """See `Drains.workers`."""
        with self._backend() as backend:
            return backend.workers()

    def _backend(self) -> Backend:
        return _backend(self._url, self._secret, Role.OPERATOR)


def load_ahead() -> None:
    """Loads the backend's client beside what waits for vault and hosts, which is idle meanwhile."""
    name = "ktrdr.client.backend"
    threading.Thread(target=importlib.import_module, args=(name,), daemon=True).start()


def drains(inventory: Inventory) -> Callable[[Secret], BackendDrains]:
    """Makes the way to drain nodes, given what signs the token for it."""
    url = api_url(os.environ, default=inventory.api_url)
    return lambda secret: BackendDrains(url, secret)


def somebody_is_there() -> bool:
    """Whether there is a terminal, so that a question can be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> None:
    """Asks; anything but a yes ends the command.

    Raises:
        Interrupted: The answer was no, or Ctrl-C.
    """
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort as exc:
        raise _declined() from exc
    raise _declined()


def refuse_unasked(losses: Sequence[str]) -> UsageError:
    """What is raised where something is lost and nobody can be asked."""
    return UsageError(
        f"this deploy needs your word: {'; '.join(losses)}",
        hint="Nothing was changed; say --yes if that is meant.",
    )


def _declined() -> Interrupted:
    return Interrupted("the deploy was called off, nothing was changed")


def _backend(url: str, secret: Secret, role: Role) -> Backend:
    # A quarter of the time to start, and no deploy needs it before its end: see `load_ahead`.
    from ktrdr.client.backend import Backend

    return Backend(url, _token(secret, role))


def _token(secret: Secret, role: Role) -> Secret:
    return create_token(
        secret,
        subject="ktrdr deploy",
        role=role,
        lifetime=_TOKEN_LIFETIME,
        now=datetime.now(UTC),
    )
