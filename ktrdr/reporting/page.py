"""Building blocks of report pages: style, cards, tables. All text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.build_info import code_version, library_versions

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
    """A value with its name. ``tone`` is "good", "bad" or empty."""

    name: str
    value: str
    tone: str = ""


def render_page(title: str, subtitle: str, parts: Iterable[str]) -> str:
    """Return a complete HTML document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        f'<h1>{html.escape(title)}</h1><p class="soft">{html.escape(subtitle)}</p>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def card_row(cards: Iterable[Card]) -> str:
    """Return cards side by side."""
    inner = "".join(
        f'<div class="card"><b class="{card.tone}">{html.escape(card.value)}</b>'
        f"<span>{html.escape(card.name)}</span></div>"
        for card in cards
    )
    return f'<div class="cards">{inner}</div>'


def section(title: str, *parts: str) -> str:
    """Return a heading, followed by the parts."""
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(parts)


def paragraph(text: str) -> str:
    """Return plain text as a paragraph."""
    return f'<p class="soft">{html.escape(text)}</p>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """Return a table whose first columns hold text and whose other columns hold numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=text' if column < text_columns else ''}>{html.escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{line(header, "th")}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def definition_list(items: Iterable[tuple[str, str]]) -> str:
    """Return names with their values."""
    inner = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in items
    )
    return f"<dl>{inner}</dl>"


def software_rows(*library_names: str) -> list[tuple[str, str]]:
    """Return the versions of KTRDR and of the given libraries as definitions."""
    build = code_version()
    rows = [("KTRDR", f"{build['version']}, commit {build['commit']}")]
    if library_names:
        versions = library_versions(library_names)
        rows.append(("Libraries", ", ".join(f"{name} {versions[name]}" for name in versions)))
    return rows


def format_percent(value: float | None, digits: int = 2) -> str:
    """Format a fraction as percent, with a typographic minus."""
    return "n/a" if value is None else f"{value * 100:,.{digits}f} %".replace("-", "\u2212")


def format_number(value: float | None, digits: int = 2) -> str:
    """Format a number with thousands separators and a typographic minus."""
    return "n/a" if value is None else f"{value:,.{digits}f}".replace("-", "\u2212")


def gain_tone(value: float | None) -> str:
    """Return the tone of a gain or a loss."""
    return "" if not value else ("good" if value > 0 else "bad")
