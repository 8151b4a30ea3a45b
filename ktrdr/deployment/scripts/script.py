"""Remote scripts as data, and their two renderings: to run, and to show.

A script travels to ``sh`` on standard input. Three things can go wrong there, and each line of the
frame is against one of them: a command that reads standard input would eat the rest of the script
(hence ``main </dev/null``, which also makes the shell read all of it before it runs any of it), a
failing command would not stop the script (``set -eu``), and a script that was cut short would end
well (the sentinel, printed last, is missing then).
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ktrdr.secret import Secret

SENTINEL: Final = "ktrdr-script-complete"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# No line of base64 can be this.
_END: Final = "-- end of payload --"
_LINE: Final = 76


@dataclass(frozen=True, slots=True)
class Script:
    """A shell script without its secrets.

    Attributes:
        body: POSIX shell, run under ``set -eu``; it reads secrets as environment variables.
        settings: Variables exported to it that are no secret, in the order given.
        secrets: The names of the variables whose values are secret.
        payload: Bytes that travel with it; the body gets them from a command ``payload``.
    """

    body: str
    settings: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    payload: bytes = b""


def render(script: Script, values: Mapping[str, Secret]) -> Secret:
    """The script as a host runs it.

    Args:
        script: What to run.
        values: The secrets by name; more than the script needs may be given.

    Raises:
        KeyError: A secret that the script needs is not among the values.
        ValueError: A name is no shell name, or a value holds a NUL character, which no environment
            can carry.
    """
    exports = [_export(name, text) for name, text in script.settings]
    exports += [_export(name, values[name].reveal()) for name in script.secrets]
    return Secret(_framed(exports, _encoded(script.payload), script.body))


def render_for_display(script: Script, *, whole: bool = False) -> str:
    """The script as a person reads it: in place of each secret stands its name.

    Args:
        script: What to show.
        whole: Whether the payload is shown too, rather than its size and hash.
    """
    exports = [_export(name, text) for name, text in script.settings]
    exports += [f"export {_checked(name)}=<{name}>" for name in script.secrets]
    payload = _encoded(script.payload) if whole else _describe_source(script.payload)
    return _framed(exports, payload, script.body)


def quote(text: str) -> str:
    """The text as one word of a POSIX shell, whatever characters it holds.

    Raises:
        ValueError: It holds a NUL character.
    """
    if "\0" in text:
        raise ValueError("a NUL character cannot stand in a shell script")
    return shlex.quote(text)


def words(*arguments: str) -> str:
    """A command line of which every argument arrives as it is given here."""
    return " ".join(quote(argument) for argument in arguments)


def made(directory: str) -> str:
    """Makes a directory that is not there; one that is costs the host no program."""
    return f"[ -d {quote(directory)} ] || {words('mkdir', '-p', directory)}"


def _export(name: str, text: str) -> str:
    return f"export {_checked(name)}={quote(text)}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a shell variable")
    return name


def _encoded(payload: bytes) -> list[str]:
    if not payload:
        return []
    text = base64.b64encode(payload).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return ["payload() {", f"base64 -d <<'{_END}'", *lines, _END, "}"]


def _describe_source(payload: bytes) -> list[str]:
    if not payload:
        return []
    digest = hashlib.sha256(payload).hexdigest()[:16]
    summary = f"({len(payload)} bytes, sha256 {digest}…; -v shows them)"
    return ["payload() {", f"base64 -d <<'{_END}'", summary, _END, "}"]


def _framed(exports: list[str], payload: list[str], body: str) -> str:
    lines = ["main() {", "set -eu", *exports, *payload, body.strip("\n"), f"echo {SENTINEL}", "}"]
    return "\n".join([*lines, "main </dev/null", ""])
