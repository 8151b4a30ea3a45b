"""Lines of JSON on standard output, for programs that call this one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ktrdr.errors import KtrdrError


def write_line(document: dict[str, object]) -> None:
    """Writes one line of JSON to standard output, at once."""
    click.echo(json.dumps(document, ensure_ascii=False))


@contextmanager
def failure_as_line(wanted: bool) -> Iterator[None]:
    """Writes an error that passes as a line, too, where lines are wanted."""
    try:
        yield
    except KtrdrError as error:
        if wanted:
            # Brings a third of the deployer with it, which is loaded behind the first connections.
            from ktrdr.deployment.deploy.result import failure_to_json

            write_line(failure_to_json(error))
        raise
