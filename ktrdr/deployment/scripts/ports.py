"""Asks a host who listens on it, and what it reaches; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ktrdr.deployment.scripts.script import words

_PATIENCE_S: Final = 3
# The kernel's own list needs no program that a host may lack.
_LISTENING: Final = """fact listening "$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
awk '$4 == "0A" { printf "%s ", $2 }')"
"""
_FORMAT: Final = '{{.Label "com.docker.compose.project"}};{{.Names}};{{.Ports}}'
# Redirections to /dev/tcp are bash's own, and need no further program.
_REACHES: Final = f"""reaches() {{
if ! command -v bash >/dev/null || ! command -v timeout >/dev/null; then
fact "reaches $1:$2" unknown
elif answer=$(LC_ALL=C timeout {_PATIENCE_S} bash -c ': <"/dev/tcp/$0/$1"' "$1" "$2" 2>&1); then
fact "reaches $1:$2" open
else
fact "reaches $1:$2" "$? $(printf %s "$answer" | head -n 1)"
fi
}}"""


def facts() -> str:
    """Prints who listens on the host, as two more ``NAME=VALUE`` lines after `host.facts`."""
    published = words("docker", "ps", "--format", _FORMAT)
    return f"{_LISTENING}fact published \"$({published} 2>/dev/null | tr '\\n' '|' || :)\""


def reaches(ways: Iterable[tuple[str, int]]) -> str:
    """Tries to connect to ports of other hosts, all at once, and prints a line for each."""
    tries = [f"{words('reaches', host, str(port))} &" for host, port in ways]
    return "\n".join([_REACHES, *tries, "wait"]) if tries else ""
