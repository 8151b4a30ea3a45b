"""The root command: fast, lazy, with an exit code and a hint for every error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ktrdr.cli.cli import cli

HEAVY = (
    "fastapi",
    "psycopg",
    "pandas",
    "numpy",
    "opentelemetry",
    "yaml",
    "rich",
    "pydantic",
    "httpx",
)
# Prints the modules that are imported after commands have run, each in the arguments as JSON.
PROBE = """
import json, sys
from ktrdr.cli.cli import cli
for words in map(json.loads, sys.argv[1:]):
    cli.main(words, prog_name="ktrdr", standalone_mode=False)
sys.stderr.write(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def ktrdr(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from ktrdr.cli.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )


def modules_after(*commands: list[str]) -> set[str]:
    """Return the modules that a process has imported after these commands."""
    words = map(json.dumps, commands)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_no_heavy_library_and_lists_every_group_and_exit_code() -> None:
    assert not set(HEAVY) & modules_after(["--help"])
    shown = ktrdr("--help").stdout
    for word in (
        "deploy",
        "status",
        "workers",
        "operations",
        "strategies",
        "data",
        "secrets",
        "token",
        "130 int",
    ):
        assert word in shown


def test_no_command_imports_a_library_of_the_image() -> None:
    image_only = {
        "fastapi",
        "psycopg",
        "pandas",
        "numpy",
        "opentelemetry",
        "sklearn",
        "procrastinate",
    }
    commands = list(cli.lazy_commands)
    assert {"deploy", "workers", "operations", "strategies", "data", "secrets"} <= set(commands)
    assert not image_only & modules_after(*([command, "--help"] for command in commands))


def test_a_misspelt_command_is_answered_with_the_closest_name() -> None:
    done = ktrdr("deplyo", "core", "all")
    assert done.returncode == 2
    assert "There is no command 'deplyo'. Did you mean 'deploy'?" in done.stderr
    assert not done.stdout


def test_an_internal_error_shows_a_traceback_only_with_ktrdr_debug(tmp_path: Path) -> None:
    # In place of a real command, whose imports take most of the time.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\n"
        "import click\n"
        "module = types.ModuleType('ktrdr.cli.commands.token')\n"
        "module.token = click.Command('token', callback=lambda: 1 / 0)\n"
        "sys.modules[module.__name__] = module\n"
    )
    done = ktrdr("token", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "internal error: ZeroDivisionError\n" in done.stderr
    assert "hint: Re-run with KTRDR_DEBUG=1 and report the traceback." in done.stderr
    assert "Traceback" not in done.stderr
    asked = ktrdr("token", PYTHONPATH=str(tmp_path), KTRDR_DEBUG="1")
    assert "Traceback" in asked.stderr


def test_ctrl_c_while_the_interpreter_ends_prints_no_traceback_and_keeps_the_exit_code(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, signal\n"
        "import ktrdr.cli.commands.token as t\n"
        "t.token.invoke = lambda ctx: exec('raise SystemExit(10)')\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    )
    for words, code in ((["--version"], 0), (["deplyo"], 2), (["token", "show"], 10)):
        done = ktrdr(*words, PYTHONPATH=str(tmp_path))
        assert done.returncode == code
        assert "KeyboardInterrupt" not in done.stderr, words


def test_without_a_token_a_command_names_the_command_that_creates_one(tmp_path: Path) -> None:
    env = {"KTRDR_CONFIG": str(tmp_path / "none.toml"), "KTRDR_TOKEN": ""}
    done = ktrdr("workers", "list", **env)
    assert done.returncode == 4
    assert "there is no token" in done.stderr
    assert "ktrdr token create --save" in done.stderr
