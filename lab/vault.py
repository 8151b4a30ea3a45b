"""The vault file, and the stand-in for `op` that reads it."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from pathlib import Path
from typing import Any, Final

from lab.config import ITEM, STANDINS, STATE, VAULT

FILE: Final = STATE / "vault.json"
PROGRAMS: Final = STATE / "bin"


def ensure() -> None:
    """Install the stand-in, and create a vault with random values if there is none."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    program = PROGRAMS / "op"
    program.write_text(
        "#!/bin/sh\n# A stand-in for the 1Password CLI, for the lab only.\n"
        f"exec {shlex.quote(sys.executable)} -IS {shlex.quote(str(STANDINS / 'op.py'))} "
        f'{shlex.quote(str(FILE))} "$@"\n'
    )
    program.chmod(0o755)
    if FILE.exists():
        return
    write_file(
        FILE,
        {
            "db_username": "ktrdr",
            "db_password": secrets.token_urlsafe(24),
            "jwt_secret": secrets.token_urlsafe(48),
            "grafana_password": secrets.token_urlsafe(18),
            "ghcr_token": f"ghp_{secrets.token_hex(18)}",
        },
    )


def write_file(path: Path, fields: dict[str, Any], *, state: str = "signed in") -> None:
    """Write a vault file with one item."""
    content = {"state": state, "vaults": {VAULT: {ITEM: fields}}}
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_field(name: str, path: Path = FILE) -> str:
    """Return the value of a field."""
    value: str = json.loads(path.read_text())["vaults"][VAULT][ITEM][name]
    return value
