"""Stands in for `world` until that is merged."""

from __future__ import annotations

import getpass
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from ktrdr.errors import Interrupted


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who does something, and when."""

    id: str
    who: str
    at: datetime


def stamp() -> Stamp:
    """A new id, with who acts and when."""
    now = datetime.now(UTC)
    return Stamp(f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}", performer(), now)


def performer() -> str:
    """Who sits here: ``KTRDR_PERFORMER``, or the user and the machine."""
    return os.environ.get("KTRDR_PERFORMER") or f"{getpass.getuser()}@{socket.gethostname()}"


def somebody_is_there() -> bool:
    """Whether there is a terminal, so that a question can be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> None:
    """Asks; anything but a yes ends the command."""
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort as exc:
        raise Interrupted("called off, nothing was changed") from exc
    raise Interrupted("called off, nothing was changed")


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Lets SIGTERM and a closed terminal end a command as orderly as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
