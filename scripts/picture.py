"""Makes a picture of a terminal: runs a command in a real one and draws what stands on its screen.

    . .lab/env
    .venv/bin/python scripts/picture.py docs/pictures/status.svg ktrdr status

The terminal is tmux's, 80 columns wide, so cursor movements and colours come out as a person sees
them. The SVG refers to nothing outside itself.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS: Final = 80
LINES: Final = 200

# rich's own template loads a web font; this one is content with what the reader has.
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
<g class="{unique_id}-matrix">{matrix}</g></g>
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


def screen_after(command: list[str]) -> str:
    """What a terminal shows after ``command`` has ended, with its escape sequences for colour."""
    server = f"picture-{os.getpid()}"
    done = f"done-{os.getpid()}"
    shown = " ".join(shlex.quote(word) for word in command)
    inner = f"printf '\\033[1;32m$\\033[0m %s\\n' {shlex.quote(shown)}; {shown}; "
    tmux = ["tmux", "-L", server, "-f", "/dev/null"]
    wait = f"tmux -L {server} wait-for -S {done}; sleep 60"
    size = ["-x", str(COLUMNS), "-y", str(LINES)]
    subprocess.run(
        [*tmux, "new-session", "-d", *size, "env", "TERM=tmux-256color", "sh", "-c", inner + wait],
        check=True,
    )
    try:
        subprocess.run([*tmux, "wait-for", done], check=True, timeout=900)
        return subprocess.run(
            [*tmux, "capture-pane", "-p", "-e"], check=True, capture_output=True, text=True
        ).stdout.rstrip()
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def main() -> None:
    """Writes the picture named first of the command that follows."""
    target, *command = sys.argv[1:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen_after(command)))
    svg = console.export_svg(title=" ".join(command[:3]), theme=THEME, code_format=SVG)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
