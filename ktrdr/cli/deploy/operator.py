"""The operator at the terminal: identity, confirmations, and signals."""

from __future__ import annotations

import getpass
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import click

from ktrdr.deployment.hosts.host import DeployId
from ktrdr.errors import Interrupted, UsageError

PERFORMER: Final = "KTRDR_PERFORMER"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


def new_deploy_id() -> DeployId:
    """Return a new deploy id for the current user and time."""
    now = datetime.now(UTC)
    return DeployId(f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}", current_user(), now)


def current_user() -> str:
    """Return ``KTRDR_PERFORMER``, or the names of user and machine."""
    return os.environ.get(PERFORMER) or f"{getpass.getuser()}@{socket.gethostname()}"


def is_interactive() -> bool:
    """Return whether a terminal can answer questions."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, effects: Sequence[str]) -> None:
    """Ask whether effects are wanted.

    Raises:
        UsageError: No terminal can answer.
        Interrupted: The answer is not yes.
    """
    if not is_interactive():
        raise UsageError(
            f"confirmation required: {'; '.join(effects)}",
            hint="Nothing was changed; re-run with --yes to accept this.",
        )
    declined = Interrupted("the command was cancelled, nothing was changed")
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort as exc:
        raise declined from exc
    raise declined


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM and a closed terminal as Ctrl-C within a block."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
