"""`ktrdr strategies`: what there is, and bringing in one's own."""

from __future__ import annotations

from pathlib import Path

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.render import json_option, say, write_json, write_table
from ktrdr.errors import UsageError
from ktrdr.schemas import StrategyInfo, StrategyParameter

_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group()
def strategies() -> None:
    """Look at, check and bring in strategies.

    A strategy is a page of YAML: indicators, rules for entry and exit, costs and sizing.
    """


@strategies.command("list")
@json_option
def list_strategies(as_json: bool) -> None:
    """List the strategies that backtests and sweeps can name."""
    with backend() as api:
        found = api.strategies()
    if as_json:
        write_json(found)
        return
    write_table(
        ("strategy", "from", "parameters", "what it does"),
        [
            (
                each.name,
                "KTRDR" if each.built_in else "you",
                "; ".join(map(_parameter, each.parameters)),
                each.fault or each.description,
            )
            for each in found
        ],
        empty="There are no strategies.",
    )


@strategies.command()
@click.argument("name")
def show(name: str) -> None:
    """Write a strategy's YAML, to read or to start one's own from."""
    with backend() as api:
        click.echo(api.strategy(name), nl=False)


@strategies.command()
@_FILE
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a strategy's file, here; nothing is sent anywhere.

    Everything that is wrong is said at once, each with its line.
    """
    # Loads PyYAML, which listing the commands should not.
    from ktrdr.strategies.catalogue import describe_strategy
    from ktrdr.strategies.document_file import read_strategy

    found = describe_strategy(read_strategy(_text(file), file.name))
    if as_json:
        write_json(found)
    else:
        say(f"{file} is good: {_described(found)}")


@strategies.command()
@_FILE
@json_option
def put(file: Path, as_json: bool) -> None:
    """Bring a strategy in, under the name that its file says.

    One of that name that is there already is replaced; those that come with KTRDR stay.
    """
    from ktrdr.strategies.document_file import read_strategy

    text = _text(file)
    name = read_strategy(text, file.name).name
    with backend() as api:
        found = api.put_strategy(name, text)
    if as_json:
        write_json(found)
    else:
        say(f"brought in {_described(found)}")


@strategies.command()
@click.argument("name")
def delete(name: str) -> None:
    """Remove a strategy of one's own."""
    with backend() as api:
        api.delete_strategy(name)
    say(f"{name} is removed")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"{file} cannot be read ({type(exc).__name__})",
            hint="It must be a readable file of UTF-8 text.",
        ) from exc


def _described(found: StrategyInfo) -> str:
    count = len(found.parameters)
    return f"{found.name}, with {count} parameter{'' if count == 1 else 's'}"


def _parameter(each: StrategyParameter) -> str:
    return f"{each.name} {', '.join(f'{value:g}' for value in each.defaults)}"
