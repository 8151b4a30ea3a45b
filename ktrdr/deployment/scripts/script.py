"""Remote scripts as data, and their text for a host that runs them or a person who reads them.

A script is a file with functions that ends with ``main "$@"``. It includes

- a library with ``. ./lib/NAME.sh``, which is inserted in that place, once;
- the text of another program with ``NAME=$(cat ./FILE)``: Python, SQL, or a script that runs
  elsewhere.

A `Program` is a script that another one writes to the host, where it outlives the connection.

Both also work if the file is run from its own directory. A library includes nothing.

A script reaches ``sh`` on standard input. Its frame prevents three failures:

- A command that reads standard input would consume the rest of the script. So the script is a
  function, which the shell reads completely before it runs any of it, with ``</dev/null``.
- A failed command would not stop the script. So scripts begin with ``set -eu``.
- A truncated script would seem to succeed. So the sentinel is printed last.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from ktrdr.secret import Secret

SENTINEL: Final = "ktrdr-script-complete"
_DEPLOYMENT: Final = Path(__file__).parents[1]
_LIBRARY: Final = re.compile(r"\. (\S+\.sh)")
_TEXT: Final = re.compile(r"([A-Z_]+)=\$\(cat (\S+)\)")
# Lines that matter only in the file itself.
_LEFT_OUT: Final = re.compile(r"#!|\s*# shellcheck ")
_CALL: Final = 'main "$@"'
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# No line of base64 is equal to this.
_END: Final = "-- end of payload --"
_LINE_LENGTH: Final = 76


@dataclass(frozen=True, slots=True)
class Call:
    """Function that a program calls: a command with its arguments and settings.

    Attributes:
        name: Name of the function.
        command: Command or function of the program.
        arguments: Its arguments.
        settings: Variables that are exported before.
    """

    name: str
    command: str
    arguments: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """Script without secrets that another script writes to the host.

    Attributes:
        file: File of the script, relative to ``ktrdr/deployment``.
        arguments: Arguments after those with which the program is called.
        extensions: Files with further functions.
        calls: Functions that the script calls.
    """

    file: str
    arguments: tuple[str, ...]
    extensions: tuple[str, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """Shell script with its arguments, and without its secrets.

    Attributes:
        file: File of the script, relative to ``ktrdr/deployment``.
        arguments: Arguments of the script.
        extensions: Files with further functions, which may replace functions of the script.
        settings: Variables that are exported and not secret, in this order.
        secrets: Names of the variables that are exported and secret.
        payload: Bytes that travel with the script, which reads them from the command ``payload``.
        program: Program that the command ``program`` prints.
        keeps_lock: Whether it inherits the descriptor of the host's lock, for the program.
        is_inline: Whether the session's own shell runs it, and keeps the descriptors that it opens.
    """

    file: str
    arguments: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    payload: bytes = b""
    program: Program | None = None
    keeps_lock: bool = False
    is_inline: bool = False


def repeat(option: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return the option before each of the values."""
    return tuple(word for value in values for word in (option, value))


def render(script: Script, values: Mapping[str, Secret]) -> Secret:
    """Return the text that a host runs.

    Args:
        script: The script.
        values: Secrets by name; those that the script does not name are ignored.

    Raises:
        KeyError: A secret of the script is not among the values.
        ValueError: A name is not that of a shell variable, or a value contains a NUL character,
            which no environment can contain.
    """
    exports = [*_export_settings(script), *(_export(name, values[name]) for name in script.secrets)]
    return Secret(_frame(script, exports, _encode_payload(script.payload)))


def render_as_root(script: Script) -> Secret:
    """Return the text with which a host runs a script without secrets as root, or through sudo."""
    text = render(script, {}).reveal()
    shell = 'if [ "$(id -u)" = 0 ]; then sh -s; else sudo -n sh -s; fi'
    return Secret(f"as_root() {{\n{shell} <<'{_END}'\n{text}{_END}\n}}\nas_root\n")


def render_for_display(script: Script, *, whole: bool = False) -> str:
    """Return the text that a person reads. A secret appears as ``"${NAME:?}"``.

    The text is a script itself. One ``sh`` with the secrets as variables can run the texts of all
    steps of a host one after the other. It acquires the lock, holds it until its end, and ends at
    the first text that fails.

    Args:
        script: The script.
        whole: Whether the text contains the payload. Without it, the command ``payload`` fails.
    """
    required = (f'export {_check_name(name)}="${{{name}:?}}"' for name in script.secrets)
    payload = _encode_payload(script.payload) if whole else _describe_payload(script.payload)
    text = _frame(script, [*_export_settings(script), *required], payload)
    if script.is_inline:
        return f"{text.rstrip()} </dev/null || exit\n"
    # As a condition of `||`, the subshell would not end at a failed command.
    return f'(\n{text})\ncode=$?\n[ "$code" = 0 ] || exit "$code"\n'


def render_command(script: Script) -> str:
    """Return a script as one command line, which ssh runs with the user's terminal.

    The user's own shell reads it, and csh and fish differ from sh in quoted words with line ends,
    backslashes or exclamation marks.
    """
    call = " ".join(["main", *map(quote, script.arguments)])
    text = f"{bundle(script.file, script.extensions)}\n{call}"
    words = textwrap.fill(base64.b64encode(text.encode()).decode(), _LINE_LENGTH).replace("\n", " ")
    return f"exec sh -c 'text=$(printf %s {words} | base64 -d) && eval \"$text\"'"


@lru_cache(maxsize=64)
def bundle(file: str, extensions: tuple[str, ...] = ()) -> str:
    """Return the text of a script with everything that it includes, without the call of ``main``.

    Args:
        file: File of the script, relative to ``ktrdr/deployment``.
        extensions: Files with further functions, which are appended.

    Raises:
        ValueError: The script does not end with the call of ``main``.
    """
    included: set[Path] = set()
    text = _expand(_DEPLOYMENT / file, included)
    if not text.endswith(f"\n{_CALL}\n"):
        raise ValueError(f"{file} does not end with {_CALL}")
    parts = [text.removesuffix(f"{_CALL}\n").rstrip("\n")]
    for extension in extensions:
        path = _DEPLOYMENT / extension
        parts += ["", _title(path), _expand(path, included)]
    return "\n".join(parts).rstrip("\n") + "\n"


def quote(text: str) -> str:
    """Return a text as one word of a POSIX shell.

    Raises:
        ValueError: The text contains a NUL character.
    """
    if "\0" in text:
        raise ValueError("a shell script cannot contain a NUL character")
    return shlex.quote(text)


def _frame(script: Script, exports: list[str], payload: str) -> str:
    call = " ".join(["main", *_lay_out(script.arguments)])
    text = bundle(script.file, script.extensions)
    if script.is_inline:
        return f"{text}\n{call}\n"
    body = [*exports, call, f"echo {SENTINEL}"]
    # What a script leaves running by mistake must not hold the lock.
    streams = "</dev/null" if script.keeps_lock else "</dev/null 9>&-"
    run = "\n".join(["run() {", *(f"    {line}" for line in body), "}", f"run {streams}\n"])
    program = [_define_program(script.program)] if script.program else []
    return "\n".join([text, *program, *([payload] if payload else []), run])


def _define_program(program: Program) -> str:
    """Return the function ``program``, which prints the text of a program."""
    calls = [
        "\n".join(
            [
                f"{call.name}() {{",
                *(f"    {line}" for line in map(_export_setting, call.settings)),
                "    " + " ".join([call.command, *_lay_out(call.arguments)]),
                "}\n",
            ]
        )
        for call in program.calls
    ]
    run = " ".join(['main "$@"', *_lay_out(program.arguments)])
    text = "\n".join([bundle(program.file, program.extensions), *calls, run])
    if _END in text.splitlines():
        raise ValueError("a program cannot contain the line that ends it")
    return f"program() {{\n    cat <<'{_END}'\n{text}\n{_END}\n}}\n"


def _lay_out(arguments: tuple[str, ...]) -> Iterator[str]:
    """Yield the quoted arguments. Options, and arguments after ``--``, begin a line."""
    begins_line = False
    for argument in arguments:
        if begins_line or argument.startswith("--"):
            yield "\\\n        " + quote(argument)
        else:
            yield quote(argument)
        begins_line = begins_line or argument == "--"


def _export_settings(script: Script) -> list[str]:
    return [_export_setting(setting) for setting in script.settings]


def _export_setting(setting: tuple[str, str]) -> str:
    return _export(setting[0], Secret(setting[1]))


def _export(name: str, value: Secret) -> str:
    return f"export {_check_name(name)}={quote(value.reveal())}"


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a shell variable")
    return name


def _encode_payload(payload: bytes) -> str:
    if not payload:
        return ""
    text = base64.b64encode(payload).decode()
    lines = [text[start : start + _LINE_LENGTH] for start in range(0, len(text), _LINE_LENGTH)]
    return "\n".join(["payload() {", f"    base64 -d <<'{_END}'", *lines, _END, "}\n"])


def _describe_payload(payload: bytes) -> str:
    if not payload:
        return ""
    digest = hashlib.sha256(payload).hexdigest()[:16]
    sentence = (
        f"{len(payload)} bytes (sha256 {digest}…) are left out here; print them with --dry-run -v"
    )
    return f"payload() {{\n    echo {quote(sentence)} >&2\n    return 1\n}}\n"


def _expand(path: Path, included: set[Path]) -> str:
    """Return the text of a file with what it includes, and remember the libraries."""
    lines: list[str] = []
    is_own = True
    for line in path.read_text(encoding="utf-8").split("\n"):
        if library := _LIBRARY.fullmatch(line):
            other = (path.parent / library[1]).resolve()
            if other not in included:
                included.add(other)
                lines += ["", _title(other), _expand(other, included).strip("\n"), ""]
                is_own = False
            continue
        if not is_own and line:
            lines.append(_title(path))
            is_own = True
        if text := _TEXT.fullmatch(line):
            lines.append(f"{text[1]}={shlex.quote(_read_program(path.parent / text[2]))}")
        elif not _LEFT_OUT.match(line):
            lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def _read_program(path: Path) -> str:
    text = _expand(path, set()) if path.suffix == ".sh" else path.read_text(encoding="utf-8")
    # A command substitution removes the last line ends, too.
    return text.rstrip("\n")


def _title(path: Path) -> str:
    """Return a comment that names the file of the following lines."""
    is_packaged = path.is_relative_to(_DEPLOYMENT)
    return f"# ---- {path.relative_to(_DEPLOYMENT) if is_packaged else path.name}"
