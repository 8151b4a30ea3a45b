"""Runner of git that no variable or setting of this machine leads astray, with its errors."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from ktrdr.errors import ConfigurationError, last_line

_TIMEOUT_S: Final = 60

# Variables of git that are passed on. The others, such as GIT_DIR in a hook of git, would lead to
# another repository, or change what git prints.
_GIT_VARIABLES: Final = ("GIT_CONFIG_", "GIT_EXEC_PATH", "GIT_SSH", "GIT_SSL", "GIT_DISCOVERY")
_GIT_ENVIRONMENT: Final = {
    # Messages are recognised by their English words.
    "LC_ALL": "C",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
# There is no repository, or it does not have what was asked for.
_ABSENT: Final = re.compile(
    r"not a git repository|[Nn]eeded a single revision|must be run in a work tree|No such remote"
)


def run(directory: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Return git's output, or nothing if there is no repository, or not what was asked for.

    Raises:
        ConfigurationError: Git is missing although there is a repository, or refuses to read it.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(_GIT_VARIABLES)
    }
    try:
        done = subprocess.run(
            # A monitor of files could outlive the command, and keep its output open.
            ["git", "-C", str(directory), "-c", "core.fsmonitor=", *arguments],
            capture_output=True,
            check=False,
            input=stdin,
            timeout=_TIMEOUT_S,
            env=inherited | _GIT_ENVIRONMENT,
        )
    except (FileNotFoundError, PermissionError) as exc:
        if find_repository(directory) is None:
            return b""
        raise ConfigurationError(
            "git is not installed on this machine, so the commit to deploy cannot be read",
            hint="Install git.",
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise _refusal(directory, f"it did not answer within {_TIMEOUT_S} s") from exc
    output = done.stderr.decode("utf-8", "replace")
    if done.returncode == 0:
        return done.stdout
    is_broken = "not a git repository" in output and (directory / ".git").exists()
    if not output or (_ABSENT.search(output) and not is_broken):
        return b""
    raise _refusal(directory, output)


def find_repository(directory: Path) -> Path | None:
    """Return the nearest directory that contains a repository, without asking git."""
    directory = directory.absolute()
    return next((at for at in (directory, *directory.parents) if (at / ".git").exists()), None)


def _refusal(directory: Path, output: str) -> ConfigurationError:
    reasons = re.findall(r"^(?:fatal|error): (.+)", output, re.MULTILINE) or [last_line(output)]
    # Git names the remedy if the checkout belongs to another user.
    remedy = re.search(r"git config --global --add safe\.directory .+", output)
    return ConfigurationError(
        f"git cannot read the checkout {directory}: {reasons[-1].rstrip('.')}",
        hint=f"Run `{remedy[0]}`." if remedy else f"Run `git -C {directory} status` to see why.",
    )
