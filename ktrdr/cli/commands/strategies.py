"""`ktrdr strategies`: built-in and own strategies."""

from __future__ import annotations

from pathlib import Path

import click

from ktrdr.cli.render import json_option, write_json, write_note, write_table, write_unchanged
from ktrdr.client.backend import open_backend
from ktrdr.errors import UsageError
from ktrdr.schemas import StrategyInfo, StrategyParameter

_file_argument = click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)


@click.group()
def strategies() -> None:
    """List, check, upload and delete strategies.

    A strategy is a YAML document: indicators, entry and exit rules, costs and sizing.
    """


@strategies.command("list")
@json_option
def list_strategies(as_json: bool) -> None:
    """List the built-in and uploaded strategies."""
    with open_backend() as api:
        infos = api.list_strategies()
    if as_json:
        write_json(infos)
        return
    write_table(
        ("strategy", "source", "parameters", "description"),
        [
            (
                info.name,
                "built-in" if info.built_in else "uploaded",
                "; ".join(map(_describe_parameter, info.parameters)),
                info.fault or info.description,
            )
            for info in infos
        ],
        empty="There are no strategies.",
    )


@strategies.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a strategy's YAML."""
    with open_backend() as api:
        write_unchanged(api.get_strategy(name))


@strategies.command()
@_file_argument
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a strategy's file without uploading it.

    Reports all errors with their lines. Needs no backend.
    """
    # PyYAML is loaded here, so that listing the commands does not load it.
    from ktrdr.strategies.catalogue import describe_strategy
    from ktrdr.strategies.document_file import read_strategy

    strategy = describe_strategy(read_strategy(_read_text(file), file.name))
    if as_json:
        write_json(strategy)
    else:
        write_note(f"{file} is valid: {_describe(strategy)}")


@strategies.command()
@_file_argument
@json_option
def put(file: Path, as_json: bool) -> None:
    """Upload a strategy under the name in its file.

    Replaces an uploaded strategy of that name. Built-in strategies cannot be replaced.
    """
    from ktrdr.strategies.document_file import read_strategy

    text = _read_text(file)
    name = read_strategy(text, file.name).name
    with open_backend() as api:
        strategy = api.put_strategy(name, text)
    if as_json:
        write_json(strategy)
    else:
        write_note(f"uploaded {_describe(strategy)}")


@strategies.command()
@click.argument("name")
def delete(name: str) -> None:
    """Delete an uploaded strategy."""
    with open_backend() as api:
        api.delete_strategy(name)
    write_note(f"deleted {name}")


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"{file} cannot be read ({type(exc).__name__})",
            hint="Make sure that the file is readable and UTF-8.",
        ) from exc


def _describe(strategy: StrategyInfo) -> str:
    count = len(strategy.parameters)
    return f"{strategy.name}, with {count} parameter{'' if count == 1 else 's'}"


def _describe_parameter(parameter: StrategyParameter) -> str:
    return f"{parameter.name} {', '.join(f'{value:g}' for value in parameter.defaults)}"
