"""Run ktrdr and record its phases: `python -m benchmarks.deploy.traced_deploy FILE WORDS`.

Modules of this benchmark are imported after the measurement of ktrdr's own imports.
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

# Time at which this process was requested, by the monotonic clock that all processes share.
REQUESTED_AT = "KTRDR_BENCH_REQUESTED_AT"

_began = time.monotonic()
_spans: list[dict[str, Any]] = []


def main() -> None:
    """Run the command line, and record the phases that take time."""
    file, *arguments = sys.argv[1:]
    requested = float(os.environ.get(REQUESTED_AT, _began))
    _record("Python starts", "", requested, _began)
    try:
        _import_modules(arguments)
        _instrument()
        sys.argv = ["ktrdr", *arguments]
        from ktrdr.cli.cli import main as ktrdr

        ktrdr()
    finally:
        _record("all", "", requested, time.monotonic())
        Path(file).write_text(json.dumps(_spans))


def _import_modules(arguments: list[str]) -> None:
    began = time.monotonic()
    import click

    from ktrdr.cli.cli import cli

    command: click.Command | None = cli
    for word in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    _record("modules are imported", "", began, time.monotonic())


def _instrument() -> None:
    from ktrdr.deployment.secrets.onepassword import OnePassword
    from ktrdr.deployment.ssh.session import RemoteSession
    from ktrdr.deployment.ssh.transport import SshTransport

    _wrap(OnePassword, "fetch", lambda *_: ("vault", ""))
    _wrap(RemoteSession, "__init__", lambda *given: ("connect", given[2]))
    # The first script includes connecting; breakdown.py subtracts it.
    for method in ("run", "acquire"):
        _wrap(SshTransport, method, lambda *given: ("script", given[1]))


def _wrap(kind: type, name: str, title: Callable[..., tuple[str, str]]) -> None:
    original = getattr(kind, name)

    def recorded(*args: Any, **more: Any) -> Any:
        began = time.monotonic()
        try:
            return original(*args, **more)
        finally:
            _record(*title(*args), began, time.monotonic())

    setattr(kind, name, recorded)


def _record(what: str, host: str, began: float, ended: float) -> None:
    thread = threading.get_ident()
    _spans.append({"what": what, "host": host, "began": began, "ended": ended, "thread": thread})


if __name__ == "__main__":
    main()
