"""An SVG: a panel for each row, a bar for each median, a line from the lowest sample to the highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _LEFT, _RIGHT = 720, 210, 70  # pixels
_BAR, _GAP, _HEADING = 14, 6, 34
_OURS, _THEIRS = "#2a6f97", "#b8b8b8"


def svg(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw the first metric of each row; `rows` are what `report.figures` gives."""
    parts: list[str] = []
    height = 0
    for row in rows.values():
        parts.append(f'<g transform="translate(0 {height})">{_panel(row)}</g>')
        height += _HEADING + len(row["medians"]) * (_BAR + _GAP) + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(row: Mapping[str, Any]) -> str:
    key, unit = next(iter(row["units"].items()))
    samples = {name: values[key] for name, values in row["samples"].items()}
    scale = (_WIDTH - _LEFT - _RIGHT) / (max(map(max, samples.values())) or 1.0)
    bars = [
        _bar(_HEADING + number * (_BAR + _GAP), name, values, row["medians"][name][key], scale)
        for number, (name, values) in enumerate(samples.items())
    ]
    title = escape(f"{row['title']}: {key}, {unit}")
    return f'<text x="8" y="22" font-weight="bold">{title}</text>' + "".join(bars)


def _bar(top: float, name: str, values: Sequence[float], median: float, scale: float) -> str:
    colour = _OURS if name.startswith("gateway") else _THEIRS
    low, high = (_LEFT + value * scale for value in (min(values), max(values)))
    middle = top + _BAR / 2
    return (
        f'<text x="{_LEFT - 8}" y="{top + 11}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{_LEFT}" y="{top}" width="{median * scale:.1f}" height="{_BAR}" fill="{colour}"/>'
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="black"/>'
        f'<text x="{high + 6:.1f}" y="{top + 11}">{median:,.1f}</text>'
    )
