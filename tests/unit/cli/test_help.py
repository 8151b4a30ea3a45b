"""Help texts of all commands: complete, plain, and printed as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from ktrdr.cli.cli import cli

# Expressions that make a text harder to read than its plain equivalent.
IDIOMS = (
    "whoever",
    "whatever",
    "somebody",
    "nobody",
    "one's own",
    "believe",
    "believed",
    "at once",
    "what is",
    "what was",
    "give back",
    "gives back",
    "given back",
    "word",
    "words",
    "no more",
    "any more",
    "mend",
    "stumble",
    "bring in",
    "brought in",
    "that there is",
    "to be had",
)
CONTROL_CHARACTER = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")

Words = tuple[str, ...]


def all_commands() -> Iterator[tuple[Words, click.Command]]:
    pending: list[tuple[Words, click.Command]] = [((), cli)]
    while pending:
        words, command = pending.pop()
        yield words, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                pending.append(((*words, name), child))


COMMANDS = dict(all_commands())
everywhere = pytest.mark.parametrize(
    "words", COMMANDS, ids=lambda words: " ".join(words) or "ktrdr"
)


def help_of(words: Words) -> str:
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="ktrdr", terminal_width=100)
    assert result.exit_code == 0
    return result.stdout


def test_every_command_is_found() -> None:
    assert {("deploy", "workers"), ("operations", "submit"), ("token", "revoke")} <= set(COMMANDS)
    assert len(COMMANDS) > 40


@everywhere
def test_help_has_no_backslash_and_no_control_character(words: Words) -> None:
    text = help_of(words)
    assert "\\" not in text
    assert not CONTROL_CHARACTER.search(text)


@everywhere
def test_every_command_and_every_option_has_a_help_text(words: Words) -> None:
    command = COMMANDS[words]
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


@everywhere
def test_help_is_plain_english(words: Words) -> None:
    text = " ".join(help_of(words).lower().split())
    assert [idiom for idiom in IDIOMS if re.search(rf"\b{idiom}\b", text)] == []


@pytest.mark.parametrize("words", [("operations", "submit"), ("operations", "batch")])
def test_examples_keep_their_lines(words: Words) -> None:
    lines = help_of(words).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("  Example"))
    assert all(line.startswith("    ") for line in lines[start + 1 :])
