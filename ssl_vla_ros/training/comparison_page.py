# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A comparison of runs for people: text for the terminal, and one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
import os
from pathlib import Path
import textwrap
from typing import Protocol

from ssl_vla_ros.training.comparison import Comparison, Group, RunRow

Cells = list[list[str]]


class LinePlot(Protocol):
    """Draws lines as SVG, as ``ssl_vla_ros.report.svg.line_plot`` does."""

    def __call__(self, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str,
                 y_label: str, height: int, markers: bool) -> str:
        """SVG of lines by name."""
        ...


def format_text(comparison: Comparison) -> str:
    """Lay the comparison out for a terminal: warnings, groups of seeds, then every run."""
    told = [line for sentence in comparison.warnings
            for line in textwrap.wrap(sentence, 98, subsequent_indent='  ')]
    blocks = [told] if told else []
    blocks += [_aligned(_group_cells(comparison), 3), _aligned(_run_cells(comparison), 3)]
    return '\n\n'.join('\n'.join(block) for block in blocks)


def write_page(comparison: Comparison, path: Path, draw: LinePlot, style: str = '') -> Path:
    """
    Write the comparison as one HTML file that needs nothing else, by one rename.

    Parameters
    ----------
    comparison, path
        What, and where.
    draw, style
        The plot and the style sheet of ``report/``, given by the caller: ``training/`` imports
        nothing of it (docs/architecture.md).

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        part.write_text(_page(comparison, draw, style), encoding='utf-8')
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _page(comparison: Comparison, draw: LinePlot, style: str) -> str:
    told = ''.join(f'<li>{escape(sentence)}</li>' for sentence in comparison.warnings)
    sections = (
        ('Seeds together', _table(_group_cells(comparison))
         + f'<p>{escape(comparison.figure)}: mean and sample standard deviation over n seeds that '
           'finished.</p>'),
        ('Every run', _table(_run_cells(comparison))
         + '<p>Final weights on held-out episodes. Losses of different objectives have no common '
           'scale; the last one reported is of a single batch.</p>'),
        (f'{comparison.figure} while training', _plot(comparison, draw)))
    body = ''.join(f'<section><h2>{escape(name)}</h2>{content}</section>'
                   for name, content in sections)
    return ('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>Comparison of runs</title><style>{style}</style></head>'
            f'<body><h1>Comparison of runs</h1>{f"<ul>{told}</ul>" if told else ""}{body}'
            '</body></html>\n')


def _plot(comparison: Comparison, draw: LinePlot) -> str:
    series = {row.name: row.curves[comparison.figure] for row in comparison.rows
              if row.curves.get(comparison.figure)}
    if not series:
        return f'<p class="missing">no run was probed for {escape(comparison.figure)}</p>'
    return draw(series, x_label='step', y_label=comparison.figure, markers=True,
                height=280 + 16 * len(series))  # names stand above the lines


def _group_cells(comparison: Comparison) -> Cells:
    """Head and rows; the first three columns are text."""
    head = ['objective', 'encoder', 'runs', 'n', _short(comparison.figure), '± std']
    return [head, *([*_names(group), str(len(group.values)),
                     _number(comparison.figure, group.mean),
                     _number(comparison.figure, group.std)] for group in comparison.groups)]


def _names(group: Group) -> list[str]:
    first = group.runs[0]
    return [first.objective, first.encoder, ' '.join(row.name for row in group.runs)]


def _run_cells(comparison: Comparison) -> Cells:
    """Head and rows; the first three columns are text."""
    head = ['run', 'objective', 'state', 'seed', 'steps', 'time', 'samples/s', 'parameters',
            'loss', *(_short(name) for name in comparison.shown)]
    return [head, *(_run(row, comparison.shown) for row in comparison.rows)]


def _run(row: RunRow, shown: Sequence[str]) -> list[str]:
    return [
        row.name, row.objective, row.state, str(row.seed), str(row.steps), _duration(row.seconds),
        '-' if row.samples_per_s is None else f'{row.samples_per_s:.0f}',
        '-' if row.parameters is None else _count(row.parameters), f'{row.loss:.4g}',
        *(_number(name, row.figures.get(name)) for name in shown)]


def _short(figure: str) -> str:
    return figure.removeprefix('probe.')


def _number(figure: str, value: float | None) -> str:
    if value is None:
        return '-'
    # Others, such as a deviation, may be of any size.
    return f'{value:.3f}' if 'r2' in figure or 'retrieval' in figure else f'{value:.3g}'


def _count(parameters: int) -> str:
    return f'{parameters / 1e3:.1f} k' if parameters < 1e6 else f'{parameters / 1e6:.1f} M'


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return '-'
    return f'{seconds:.1f} s' if seconds < 60.0 else f'{seconds / 60.0:.1f} min'


def _aligned(cells: Cells, texts: int) -> list[str]:
    """Columns of text to the left, of numbers to the right."""
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    return ['  '.join(cell.ljust(width) if place < texts else cell.rjust(width)
                      for place, (cell, width) in enumerate(zip(row, widths, strict=True))
                      ).rstrip() for row in cells]


def _table(cells: Cells) -> str:
    head = ''.join(f'<th scope="col">{escape(cell)}</th>' for cell in cells[0])
    body = ''.join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + ''.join(f'<td>{escape(cell)}</td>' for cell in row[1:]) + '</tr>' for row in cells[1:])
    return (f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f'<tbody>{body}</tbody></table></div>')
