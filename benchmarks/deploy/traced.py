"""Runs ktrdr and writes down when it did what: `python -m benchmarks.deploy.traced FILE WORDS`.

Its own modules are loaded after that is measured which ktrdr has to load.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The time (of the monotonic clock, which all processes share) at which this process was wished for.
WISHED = "KTRDR_BENCH_WISHED"

_began = time.monotonic()
_spans: list[dict[str, Any]] = []


def main() -> None:
    """Runs the command line with watches on what takes time."""
    file, *arguments = sys.argv[1:]
    wished = float(os.environ.get(WISHED, _began))
    _note("Python starts", "", wished, _began)
    try:
        _loading(arguments)
        _watch()
        sys.argv = ["ktrdr", *arguments]
        from ktrdr.cli.cli import main as ktrdr

        ktrdr()
    finally:
        _note("all", "", wished, time.monotonic())
        Path(file).write_text(json.dumps(_spans))


def _loading(arguments: list[str]) -> None:
    began = time.monotonic()
    import click

    from ktrdr.cli.cli import cli

    command: click.Command | None = cli
    for word in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    _note("its modules load", "", began, time.monotonic())


def _watch() -> None:
    from ktrdr.deployment.secrets.onepassword import OnePassword
    from ktrdr.deployment.ssh.session import RemoteSession
    from ktrdr.deployment.ssh.transport import SshTransport

    _wrap(OnePassword, "fetch", lambda *_: ("vault", ""))
    _wrap(RemoteSession, "__init__", lambda *given: ("connect", given[2]))
    # Connecting is a part of the first script; it is taken off again where spans are read.
    for method in ("run", "acquire"):
        _wrap(SshTransport, method, lambda *given: ("script", given[1]))


def _wrap(kind: type, name: str, title: Callable[..., tuple[str, str]]) -> None:
    original = getattr(kind, name)

    def watched(*args: Any, **more: Any) -> Any:
        began = time.monotonic()
        try:
            return original(*args, **more)
        finally:
            _note(*title(*args), began, time.monotonic())

    setattr(kind, name, watched)


def _note(what: str, host: str, began: float, ended: float) -> None:
    thread = threading.get_ident()
    _spans.append({"what": what, "host": host, "began": began, "ended": ended, "thread": thread})


if __name__ == "__main__":
    main()
