"""A host's shell: it runs the scripts of a deploy for real, with a stand-in for Docker."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ktrdr.deployment import scripts
from ktrdr.deployment.scripts.script import SENTINEL, Script, render

SCRIPTS = Path(scripts.__file__).parent
# Each as hosts have it for `sh`.
SHELLS = [
    shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
]
# Answers a command by the file of its name, and writes its arguments down.
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
        place: The directory of `docker` and its answers.
        program: The shell's command line.
    """

    def __init__(self, place: Path, program: list[str] | None = None) -> None:
        self.place = place
        self.program = program or ["sh"]
        (place / "answers").mkdir()
        (place / "docker").write_text(_DOCKER)
        (place / "docker").chmod(0o755)

    def docker(self, command: str, answer: str) -> None:
        """Has ``docker COMMAND`` run lines of shell."""
        (self.place / "answers" / command).write_text(answer)

    @property
    def calls(self) -> list[str]:
        """The arguments of every call of Docker."""
        file = self.place / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def start(self, script: Script) -> subprocess.CompletedProcess[str]:
        """Runs a script to its end, however it ends."""
        return subprocess.run(
            [*self.program, "-s"],
            input=render(script, {}).reveal(),
            env={**os.environ, "PATH": f"{self.place}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def run(self, script: Script) -> list[str]:
        """The lines that a script prints, which has to end well."""
        done = self.start(script)
        assert done.returncode == 0, done.stderr
        *lines, last = done.stdout.splitlines()
        assert last == SENTINEL
        return lines


def script_of(place: Path, body: str, *libraries: str, **more: object) -> Script:
    """A script of a test's own, in a file of its own, with libraries of the real scripts."""
    file = place / f"script-{len(list(place.glob('script-*')))}.sh"
    lines = ["#!/bin/sh", "set -eu", *(f". {SCRIPTS}/lib/{name}.sh" for name in libraries)]
    file.write_text("\n".join([*lines, "main() {", body, "}", 'main "$@"', ""]))
    return Script(str(file), **more)  # type: ignore[arg-type]
