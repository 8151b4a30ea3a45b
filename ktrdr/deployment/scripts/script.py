"""Remote scripts as data, and their renderings: for a host that runs them, and for a person.

A script travels to ``sh`` on standard input. Three things can go wrong there, and each part of the
frame is against one of them: a command that reads standard input would eat the rest of the script
(hence ``</dev/null``, and a function, of which the shell reads all before it runs any of it), a
failing command would not stop the script (``set -eu``), and a script that was cut short would seem
to end well (the sentinel, which is printed last, is missing then).
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.scripts.bundle import bundle
from ktrdr.secret import Secret

SENTINEL: Final = "ktrdr-script-complete"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# No line of base64 can be this.
_END: Final = "-- end of payload --"
_LINE: Final = 76


@dataclass(frozen=True, slots=True)
class Script:
    """A shell script with its arguments, and without its secrets.

    Attributes:
        file: The script's file, relative to ``ktrdr/deployment``.
        arguments: Its arguments.
        extensions: Files with further functions for it.
        settings: Variables exported to it that are no secret, in the order given.
        secrets: The names of the variables whose values are secret.
        payload: Bytes that travel with it; it gets them from a command ``payload``.
        is_inline: Whether the session's own shell runs it, and keeps what it opens.
    """

    file: str
    arguments: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    payload: bytes = b""
    is_inline: bool = False


def repeat(option: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return the option before each of the values."""
    return tuple(word for value in values for word in (option, value))


def render(script: Script, values: Mapping[str, Secret]) -> Secret:
    """Return the script as a host runs it.

    Args:
        script: The script.
        values: The secrets by name; more than the script needs may be given.

    Raises:
        KeyError: A secret that the script needs is not among the values.
        ValueError: A name is no shell name, or a value holds a NUL character, which no environment
            can carry.
    """
    exports = [*_settings(script), *(_export(name, values[name]) for name in script.secrets)]
    return Secret(_frame(script, exports, _encode_payload(script.payload)))


def render_for_display(script: Script, *, whole: bool = False) -> str:
    """Return the script as a person reads it, with the name of each secret for its value.

    It is a script itself. Those of all steps of a host, one behind the other, can be given to one
    ``sh`` that has the secrets as variables: the first that fails ends it, and the lock, which the
    shell itself takes, lasts until its end.

    Args:
        script: The script.
        whole: Whether the payload is a part of it; without, whatever needs the payload fails.
    """
    exports = [*_settings(script), *map(_require_variable, script.secrets)]
    payload = _encode_payload(script.payload) if whole else _describe_payload(script.payload)
    text = _frame(script, exports, payload)
    if script.is_inline:
        return f"{text.rstrip()} </dev/null || exit\n"
    # In the condition of `||`, a failing command in the subshell would not end it.
    return f'(\n{text}) 9>&-\ncode=$?\n[ "$code" = 0 ] || exit "$code"\n'


def render_command(script: Script) -> str:
    """Return the script as one command line, for ssh to run with the user's terminal."""
    text = f'{bundle(script.file, script.extensions)}\nmain "$@"'
    return " ".join(["exec sh -c", quote(text), "sh", *map(quote, script.arguments)])


def quote(text: str) -> str:
    """Return the text as one word of a POSIX shell, whatever characters it holds.

    Raises:
        ValueError: It holds a NUL character.
    """
    if "\0" in text:
        raise ValueError("a NUL character cannot stand in a shell script")
    return shlex.quote(text)


def _settings(script: Script) -> list[str]:
    return [_export(name, Secret(text)) for name, text in script.settings]


def _export(name: str, value: Secret) -> str:
    return f"export {_checked(name)}={quote(value.reveal())}"


def _require_variable(name: str) -> str:
    return f'export {_checked(name)}="${{{name}:?}}"'


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a shell variable")
    return name


def _encode_payload(payload: bytes) -> str:
    if not payload:
        return ""
    text = base64.b64encode(payload).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join(["payload() {", f"    base64 -d <<'{_END}'", *lines, _END, "}\n"])


def _describe_payload(payload: bytes) -> str:
    if not payload:
        return ""
    digest = hashlib.sha256(payload).hexdigest()[:16]
    sentence = (
        f"{len(payload)} bytes (sha256 {digest}…) are left out here; print them with --dry-run -v"
    )
    return f"payload() {{\n    echo {quote(sentence)} >&2\n    return 1\n}}\n"


def _frame(script: Script, exports: list[str], payload: str) -> str:
    call = " ".join(["main", *_lay_out(script.arguments)])
    text = bundle(script.file, script.extensions)
    if script.is_inline:
        return f"{text}\n{call}\n"
    body = [*exports, call, f"echo {SENTINEL}"]
    run = "\n".join(["run() {", *(f"    {line}" for line in body), "}", "run </dev/null\n"])
    return "\n".join([text, *([payload] if payload else []), run])


def _lay_out(arguments: tuple[str, ...]) -> Iterator[str]:
    """Yield the quoted arguments; each option, and each argument after ``--``, begins a line."""
    begins_line = False
    for argument in arguments:
        if begins_line or argument.startswith("--"):
            yield "\\\n        " + quote(argument)
        else:
            yield quote(argument)
        begins_line = begins_line or argument == "--"
