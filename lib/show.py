"""What a notebook cell ends in: tables, verdicts, one record in full, a note - as HTML in a notebook, as text everywhere else.

Whatever is shown is escaped; a caption cannot become markup. Colours follow the notebook's light or dark theme through its own
variables, with fixed values where there are none.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from lib import claims as ladder
from lib.consistency import number

INK = "var(--jp-content-font-color1, #1f2a37)"
MUTED = "var(--jp-content-font-color2, #6b7280)"
LINE = "var(--jp-border-color2, #e5e7eb)"
GREEN, AMBER, RED, GREY = "#2e7d4f", "#b45309", "#c0392b", "#6b7280"
COLOURS = {
    ladder.REPRODUCED: GREEN,
    ladder.WITHIN_NOISE: GREEN,
    ladder.DIRECTION_ONLY: AMBER,
    ladder.NOT_REPRODUCED: RED,
    ladder.CODE_PATH_ONLY: GREY,
    ladder.NOT_TESTABLE: GREY,
    ladder.NOT_CONFIRMED: GREY,
}
LONGEST = 200  # rows a table shows before it says how many more there are
SHORT = 20  # characters of a word that a narrow column never breaks: a commit, a date with its time


@dataclass(frozen=True)
class Shown:
    """Something to look at: HTML for a notebook, text for a terminal."""

    html: str = field(repr=False)
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        """The text form, so that a terminal shows the same content."""
        return self.text


def value_text(value: object) -> str:
    """A cell's text: floats with four significant digits, whole numbers with separators, lists with commas, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value) if not math.isfinite(value) or value.is_integer() else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(part) for part in value)
    return str(value)


def table(rows: Iterable[Mapping], columns: Sequence[str] | None = None) -> Shown:
    """Rows as a table; `columns` chooses and orders them (default: every key in the order it first appears)."""
    listed = list(rows)
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in listed for name in row))
    more = f"{len(listed) - LONGEST:,} more rows" if len(listed) > LONGEST else ""
    shown = listed[:LONGEST]
    # A column is set flush right only if all of it is numbers; a mixed one would be ragged on both sides.
    numeric = {name for name in names if all(isinstance(row.get(name), int | float | None) for row in shown)}
    cells = [[value_text(row.get(name)) for name in names] for row in shown]
    body = "".join(
        "<tr>" + "".join(_cell(text, right=name in numeric) for name, text in zip(names, line, strict=True)) + "</tr>" for line in cells
    )
    html = _html_table([(name, name in numeric) for name in names], body) + (_muted(more) if more else "")
    return Shown(html, _text_table(names, cells) + (f"\n{more}" if more else ""))


def claims(verdicts: Iterable[ladder.Verdict]) -> Shown:
    """The claims table: what was published, what we have, the verdict in its colour and the reason for it."""
    rows = [verdict_row(verdict) for verdict in verdicts]
    names = ["claim", "published", "ours", "verdict", "why"]
    body = "".join(
        "<tr>"
        + _cell(row["claim"])
        + _cell(row["published"], right=True)
        + _cell(row["ours"], right=True)
        + f'<td style="padding:5px 10px;white-space:nowrap;vertical-align:top;text-align:left">{badge(row["verdict"])}</td>'
        + _cell(row["why"], colour=MUTED)
        + "</tr>"
        for row in rows
    )
    header = [(name, name in ("published", "ours")) for name in names]
    return Shown(_html_table(header, body), _text_table(names, [[row[name] for name in names] for row in rows]))


def verdict_row(verdict: ladder.Verdict) -> dict[str, str]:
    """The cells of one claim as text: claim, published, ours, verdict, why."""
    unit = f" {verdict.claim.unit}" if verdict.claim.unit else ""
    measured = "" if verdict.measured is None else number(verdict.measured)
    why = verdict.reason + (f"; {verdict.power}" if verdict.power else "")
    published = f"{verdict.claim.value}{unit}" if verdict.claim.value is not None else ""
    return {"claim": verdict.claim.statement, "published": published, "ours": measured, "verdict": verdict.word, "why": why}


def badge(word: str) -> str:
    """The verdict's word as coloured HTML; only REPRODUCED and WITHIN NOISE are green, grey says that nothing was tested."""
    return f'<span style="color:{COLOURS[word]};font-weight:600;font-size:12px;letter-spacing:.02em">{escape(word)}</span>'


def checks(results: Iterable[ladder.CheckResult]) -> Shown:
    """The consistency checks of the published numbers: the statement, both sides as computed, and whether it holds."""
    rows = [(row.check.statement, row.outcome.text, row.outcome.holds) for row in results]
    body = "".join(
        "<tr>" + _cell(said) + _cell(text) + _cell("holds" if holds else "does not hold", colour=MUTED if holds else RED) + "</tr>"
        for said, text, holds in rows
    )
    names = ["stated", "computed", "holds"]
    lines = [[said, text, "yes" if holds else "NO"] for said, text, holds in rows]
    return Shown(_html_table([(name, False) for name in names], body), _text_table(names, lines))


def record(mapping: Mapping) -> Shown:
    """One record in full: every field on its line, long texts unabridged, line ends and blanks kept."""
    rows = [(str(name), value_text(value)) for name, value in mapping.items()]
    width = max((len(name) for name, _ in rows), default=0)
    name_style = f"padding:4px 14px 4px 0;text-align:left;vertical-align:top;font-weight:500;color:{MUTED}"
    text_style = "padding:4px 0;text-align:left;white-space:pre-wrap;overflow-wrap:anywhere"
    body = "".join(
        f'<tr><th scope="row" style="{name_style}">{escape(name)}</th><td style="{text_style}">{escape(text)}</td></tr>'
        for name, text in rows
    )
    html = f'<table style="border-collapse:collapse;border:0;color:{INK};font-size:13px">{body}</table>'
    indent = "\n" + " " * (width + 2)
    return Shown(html, "\n".join(f"{name:<{width}}  {text.replace(chr(10), indent)}" for name, text in rows))


def note(text: str) -> Shown:
    """A sentence that stands out: what the reader has to know about the numbers around it."""
    style = f"border-left:3px solid {AMBER};padding:6px 12px;margin:6px 0;color:{INK};font-size:13px;max-width:80ch"
    return Shown(f'<div style="{style}">{escape(text)}</div>', f"NOTE: {text}")


def sections(parts: Iterable[tuple[str, object]]) -> None:
    """Show (caption, figure or table) pairs one below the other; nothing to show is said so."""
    from IPython.display import Markdown, display

    parts = list(parts)
    for caption, thing in parts:
        display(Markdown(escape(caption, quote=False)), thing)
    if not parts:
        display(note("Nothing to show here."))


def _cell(text: str, *, right: bool = False, colour: str = INK) -> str:
    aligned = "text-align:right;font-variant-numeric:tabular-nums" if right else "text-align:left"
    wrapped = "white-space:nowrap" if right or (len(text) <= SHORT and " " not in text) else "overflow-wrap:anywhere"
    return f'<td style="padding:5px 10px;vertical-align:top;color:{colour};{aligned};{wrapped}">{escape(text)}</td>'


def _html_table(header: Sequence[tuple[str, bool]], body: str) -> str:
    """A table in the kit's plain style; `header` holds (name, aligned right)."""
    style = f"padding:5px 10px;border-bottom:1px solid {LINE};font-weight:600;color:{MUTED}"
    cells = "".join(f'<th style="{style};text-align:{"right" if right else "left"}">{escape(name)}</th>' for name, right in header)
    return (
        f'<table style="border-collapse:collapse;border:0;font-size:13px;color:{INK}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _muted(text: str) -> str:
    return f'<div style="color:{MUTED};font-size:12px;padding:4px 10px">{escape(text)}</div>'


def _text_table(names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, except the last; line ends inside a cell become blanks."""
    flat = [[" ".join(text.split("\n")) for text in line] for line in (names, *lines)]
    widths = [max(len(line[index]) for line in flat) for index in range(len(names))]
    padded = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in flat]
    return "\n".join([padded[0], "  ".join("-" * min(width, 60) for width in widths), *padded[1:]])
