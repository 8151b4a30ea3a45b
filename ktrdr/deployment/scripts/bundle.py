"""Bundles of shell scripts: one text for a script and all that it includes.

A script stands in a file of its own, with functions, and ends with ``main "$@"``. It includes

- a library with ``. ./lib/NAME.sh``, which is put in that place, once;
- the text of another program with ``NAME=$(cat ./FILE)``: Python, SQL, or a script that runs
  elsewhere.

Both work as they stand where a script is run from its own directory. A library includes nothing.
"""

from __future__ import annotations

import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Final

_DEPLOYMENT: Final = Path(__file__).parents[1]
_LIBRARY: Final = re.compile(r"\. (\S+\.sh)")
_TEXT: Final = re.compile(r"([A-Z_]+)=\$\(cat (\S+)\)")
# What concerns the file alone.
_LEFT_OUT: Final = re.compile(r"#!|\s*# shellcheck ")
_CALL: Final = 'main "$@"'


@lru_cache(maxsize=64)
def bundle(file: str, extensions: tuple[str, ...] = ()) -> str:
    """Return the text of a script with all that it includes, without the call of ``main``.

    Args:
        file: The script, relative to ``ktrdr/deployment``.
        extensions: Files with further functions, which may define anew what the script defines.

    Raises:
        ValueError: The script does not end with the call of ``main``.
    """
    included: set[Path] = set()
    text = _expand(_DEPLOYMENT / file, included)
    if not text.endswith(f"\n{_CALL}\n"):
        raise ValueError(f"{file} does not end with {_CALL}")
    parts = [text.removesuffix(f"{_CALL}\n").rstrip("\n")]
    for extension in extensions:
        parts += ["", _title(_DEPLOYMENT / extension), _expand(_DEPLOYMENT / extension, included)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _title(path: Path) -> str:
    """Return a comment that tells where the lines behind it stand."""
    is_ours = path.is_relative_to(_DEPLOYMENT)
    return f"# ---- {path.relative_to(_DEPLOYMENT) if is_ours else path.name}"


def _expand(path: Path, included: set[Path]) -> str:
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
            lines.append(f"{text[1]}={shlex.quote(_program(path.parent / text[2]))}")
        elif not _LEFT_OUT.match(line):
            lines.append(line)
    return _without_double_blanks("\n".join(lines)) + "\n"


def _program(path: Path) -> str:
    text = _expand(path, set()) if path.suffix == ".sh" else path.read_text(encoding="utf-8")
    # As a substitution has it.
    return text.rstrip("\n")


def _without_double_blanks(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")
