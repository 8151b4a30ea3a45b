"""The page that reports are written on: style, cards, tables. All text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --back: #ffffff; --card: #f6f8fa; --blue: #0969da; --grey: #818b98; --green: #1a7f37;
  --red: #cf222e }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #30363d;
  --back: #0d1117; --card: #151b23; --blue: #4493f8; --grey: #7d8590; --green: #3fb950;
  --red: #f85149 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--back);
  color: var(--ink); font: 15px/1.5 ui-sans-serif, system-ui, "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem }
p { margin: .25rem 0 } .soft, figcaption, dt { color: var(--soft) } .good { color: var(--green) }
.bad { color: var(--red) }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: .75rem; margin: 1.5rem 0 }
@media (max-width: 40rem) { .cards { grid-template-columns: repeat(2, 1fr) } }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .7rem .85rem }
.card b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums }
.card span { color: var(--soft); font-size: .85rem }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap }
th { color: var(--soft); font-weight: 600 } th.text, td.text { text-align: left }
figure { margin: 1rem 0 } svg { display: block; width: 100%; height: auto }
svg text { font: 12px ui-sans-serif, system-ui, Arial, sans-serif; fill: var(--soft) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; font-size: .9rem }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
"""


@dataclass(frozen=True, slots=True)
class Card:
    """A figure with its name; ``tone`` is "good", "bad" or empty."""

    name: str
    value: str
    tone: str = ""


def page(title: str, subtitle: str, parts: Iterable[str]) -> str:
    """A whole HTML document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        f'<h1>{html.escape(title)}</h1><p class="soft">{html.escape(subtitle)}</p>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def cards(items: Iterable[Card]) -> str:
    """Figures side by side."""
    inner = "".join(
        f'<div class="card"><b class="{item.tone}">{html.escape(item.value)}</b>'
        f"<span>{html.escape(item.name)}</span></div>"
        for item in items
    )
    return f'<div class="cards">{inner}</div>'


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it."""
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(parts)


def paragraph(text: str) -> str:
    """Plain text."""
    return f'<p class="soft">{html.escape(text)}</p>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 1) -> str:
    """A table whose first ``text`` columns are words and the others figures."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=text' if column < text else ''}>{html.escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{line(header, "th")}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def definitions(items: Iterable[tuple[str, str]]) -> str:
    """Names with their values."""
    inner = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in items
    )
    return f"<dl>{inner}</dl>"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as percent, with its sign spelled by a true minus."""
    return "n/a" if value is None else f"{value * 100:,.{digits}f} %".replace("-", "\u2212")


def number(value: float | None, digits: int = 2) -> str:
    """A figure with thousands separated."""
    return "n/a" if value is None else f"{value:,.{digits}f}".replace("-", "\u2212")


def tone_of(value: float | None) -> str:
    """Green for a gain, red for a loss."""
    return "" if not value else ("good" if value > 0 else "bad")
