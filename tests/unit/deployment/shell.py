"""A host's shell, which really runs the scripts of a deploy, with a stand-in for Docker."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ktrdr.deployment import scripts
from ktrdr.deployment.scripts.script import SENTINEL, Script, render
from tests.thoroughness import IS_THOROUGH

SCRIPTS = Path(scripts.__file__).parent
# The shells that hosts use as `sh`; the first is that of Debian and Ubuntu.
SHELLS = [
    shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
][: None if IS_THOROUGH else 1]
# Records its arguments, and runs the file that is named after its command.
_DOCKER = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$*" >>"$here/calls"
file="$here/answers/$1-$2"
[ -f "$file" ] || file="$here/answers/$1"
[ ! -f "$file" ] || . "$file"
"""


class Shell:
    """A host's shell.

    Attributes:
        directory: Directory of the stand-in for Docker and of its answers.
        program: Command line of the shell.
    """

    def __init__(self, directory: Path, program: list[str] | None = None) -> None:
        self.directory = directory
        self.program = program or ["sh"]
        (directory / "answers").mkdir()
        (directory / "docker").write_text(_DOCKER)
        (directory / "docker").chmod(0o755)

    def docker(self, command: str, answer: str) -> None:
        """Let ``docker COMMAND`` run lines of shell."""
        (self.directory / "answers" / command).write_text(answer)

    @property
    def calls(self) -> list[str]:
        """Return the arguments of each call of Docker."""
        file = self.directory / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def start(self, script: Script) -> subprocess.CompletedProcess[str]:
        """Run a script to its end, whatever its exit code."""
        return subprocess.run(
            [*self.program, "-s"],
            input=render(script, {}).reveal(),
            env={**os.environ, "PATH": f"{self.directory}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def run(self, script: Script) -> list[str]:
        """Run a script that must succeed; return the lines that it prints."""
        done = self.start(script)
        assert done.returncode == 0, done.stderr
        *lines, last = done.stdout.splitlines()
        assert last == SENTINEL
        return lines


def write_script(directory: Path, body: str, *libraries: str, **fields: Any) -> Script:
    """Write a script of a test to a file, with libraries of the real scripts."""
    file = directory / f"script-{len(list(directory.glob('script-*')))}.sh"
    lines = ["#!/bin/sh", "set -eu", *(f". {SCRIPTS}/lib/{name}.sh" for name in libraries)]
    file.write_text("\n".join([*lines, "main() {", body, "}", 'main "$@"', ""]))
    return Script(str(file), **fields)
