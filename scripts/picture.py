"""Draw a picture of a terminal: run a command in a real one, and draw its screen as SVG.

    . .lab/env
    .venv/bin/python scripts/picture.py docs/pictures/status.svg ktrdr status

The terminal is tmux, 80 columns wide, so cursor movements and colours appear as for a user. The SVG
refers to nothing outside itself.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS: Final = 80
LINES: Final = 200
_POLL_INTERVAL_S: Final = 0.1
_TIMEOUT_S: Final = 600

# rich's own template loads a web font; this one uses installed fonts.
SVG: Final = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, \
monospace; line-height: {line_height}px; }}
.{unique_id}-title {{ font: bold 18px ui-sans-serif, sans-serif; fill: #8b949e; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" \
height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" \
clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">{matrix}</g></g>
</svg>
"""
THEME: Final = TerminalTheme(
    (13, 17, 23),
    (201, 209, 217),
    [
        (72, 79, 88),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (201, 209, 217),
    ],
)


class Terminal:
    """Terminal that runs a command and whose screen can be captured meanwhile."""

    def __init__(self, command: Sequence[str], *, shown: str | None = None) -> None:
        """Start the command.

        Args:
            command: Command to run.
            shown: Text at the prompt instead of the command.
        """
        # A separate server, because the previous one may still be stopping.
        name = f"picture-{uuid.uuid4().hex}"
        self._tmux = ["tmux", "-L", name, "-f", "/dev/null"]
        self._ended = Path(tempfile.gettempdir(), f"{name}.ended")
        line = " ".join(shlex.quote(word) for word in command)
        prompt = f"printf '\\033[1;32m$\\033[0m %s\\n' {shlex.quote(shown or line)}"
        inner = f"{prompt}; {line}; touch {shlex.quote(str(self._ended))}; sleep {_TIMEOUT_S}"
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        shell = ["env", "TERM=tmux-256color", "COLORTERM=", "sh", "-c", inner]
        subprocess.run([*self._tmux, "new-session", "-d", *size, *shell], check=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False)
        self._ended.unlink(missing_ok=True)

    @property
    def screen(self) -> str:
        """Current content, with escape sequences for colours."""
        capture = [*self._tmux, "capture-pane", "-p", "-e"]
        return subprocess.run(capture, check=True, capture_output=True, text=True).stdout.rstrip()

    def wait_for_text(self, pattern: str) -> str:
        """Wait until the text without colours matches a pattern; return the screen."""
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            has_ended, screen = self._ended.exists(), self.screen
            if re.search(pattern, Text.from_ansi(screen).plain, re.MULTILINE):
                return screen
            if has_ended:
                break
            time.sleep(_POLL_INTERVAL_S)
        raise TimeoutError(f"{pattern!r} never appeared on the screen:\n{self.screen}")

    def wait_for_end(self) -> str:
        """Wait until the command has ended; return the screen."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._ended.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the command did not end:\n{self.screen}")
            time.sleep(_POLL_INTERVAL_S)
        return self.screen


def draw_screen(screen: str, target: Path, title: str) -> None:
    """Write the picture of a screen."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen))
    svg = console.export_svg(title=title, theme=THEME, code_format=SVG)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(svg, encoding="utf-8")


def main() -> None:
    """Write a picture; the arguments are its path and the command."""
    target, *command = sys.argv[1:]
    with Terminal(command) as terminal:
        draw_screen(terminal.wait_for_end(), Path(target), " ".join(command[:3]))


if __name__ == "__main__":
    main()
