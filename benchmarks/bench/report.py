"""Samples → medians and ratios → a table of at most 80 columns, and what is written as JSON.

A ratio is the median over the turns of the gateway's figure divided by the other's of the same turn: what disturbs the
machine for longer than a turn disturbs both.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.bench.rows import Metric, Row, Sample

Samples = Mapping[str, Sequence[Sample]]  # of each contender, one a turn

_NAME, _NUMBER, _RATIO = 26, 9, 8  # columns


def median(samples: Samples, contender: str, metric: Metric) -> float:
    """Of one contender's turns."""
    return statistics.median(sample[metric.key] for sample in samples[contender])


def compared(row: Row, samples: Samples, ours: str, theirs: str, metric: Metric) -> float | None:
    """The median of the turns' ratios, or differences; None where theirs is 0."""
    pairs = [(mine[metric.key], other[metric.key]) for mine, other in zip(samples[ours], samples[theirs], strict=True)]
    if row.differences:
        return statistics.median(mine - other for mine, other in pairs)
    ratios = [mine / other for mine, other in pairs if other]
    return statistics.median(ratios) if ratios else None


def table(row: Row, samples: Samples) -> str:
    """The row's title and a line for each contender, with what is ours compared with it."""
    turns = max(map(len, samples.values()))
    lines = [f"{row.name}: {row.title}; {turns} turns", _units(row), *(_line(row, samples, name) for name in samples)]
    return "\n".join(lines)


def _units(row: Row) -> str:
    """Below each unit what the columns after it are: which of ours, divided by the contender or less it."""
    sign = "-" if row.differences else "/"
    marks = [f"{_mark(name)}{sign}it" for name in row.ours]
    columns = [f"{metric.unit:>{_NUMBER}}" + "".join(f"{mark:>{_RATIO}}" for mark in marks) for metric in row.metrics]
    titles = [f"{metric.title:>{_NUMBER}}" + " " * _RATIO * len(marks) for metric in row.metrics]
    return f"{'':{_NAME}}{''.join(titles)}".rstrip() + f"\n{'':{_NAME}}{''.join(columns)}"


def _mark(name: str) -> str:
    return "kept" if name.endswith("kept") else "gw"


def _line(row: Row, samples: Samples, name: str) -> str:
    cells = [f"{name:{_NAME}}"]
    for metric in row.metrics:
        cells.append(f"{median(samples, name, metric):{_NUMBER},.{metric.digits}f}")
        cells += [_cell(compared(row, samples, ours, name, metric), name == ours) for ours in row.ours]
    return "".join(cells).rstrip()


def _cell(value: float | None, is_itself: bool) -> str:
    return f"{'':{_RATIO}}" if value is None or is_itself else f"{value:{_RATIO}.2f}"


def figures(row: Row, samples: Samples, commands: Mapping[str, str]) -> dict[str, Any]:
    """What JSON has of a row: every sample, and what follows from them."""
    return {
        "title": row.title,
        "front": row.front,
        "units": {metric.key: metric.unit for metric in row.metrics},
        "commands": dict(commands),
        "medians": {
            name: {metric.key: round(median(samples, name, metric), 3) for metric in row.metrics} for name in samples
        },
        "differences" if row.differences else "ratios": {
            f"{ours} and {name}" if row.differences else f"{ours} / {name}": {
                metric.key: round(value, 3)
                for metric in row.metrics
                if (value := compared(row, samples, ours, name, metric)) is not None
            }
            for ours in row.ours
            for name in samples
            if name != ours
        },
        "samples": {
            name: {metric.key: [round(sample[metric.key], 3) for sample in turns] for metric in row.metrics}
            for name, turns in samples.items()
        },
    }
