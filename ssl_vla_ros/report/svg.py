# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG text, small enough to read: lines over steps, and rates with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
import math

#: Colours that differ for colour-blind readers, too (Okabe and Ito), on light and dark pages.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
#: A plot's steps are thinned to this many; a screen shows no more.
MAX_POINTS = 400

_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 12.0, 40.0
_LINE_HEIGHT = 16.0

Points = Sequence[tuple[float, float]]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within a range."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def line_plot(
    series: Mapping[str, Points], *, x_label: str, y_label: str, width: int = 560,
    height: int = 280, reference: tuple[float, str] | None = None, markers: bool = False,
) -> str:
    """
    Draw lines over a common axis.

    Parameters
    ----------
    series
        Points (x, y) by name; a y that is not finite leaves a gap.
    x_label, y_label
        What the axes show. The y axis becomes logarithmic where all values are above zero and
        span more than a factor of 50.
    width, height
        Size in pixels.
    reference
        A horizontal line: where, and its name.
    markers
        Whether each point gets a dot.

    Raises
    ------
    ValueError
        If there is no finite point.

    """
    points = [point for line in series.values() for point in line
              if math.isfinite(point[0]) and math.isfinite(point[1])]
    if not points:
        raise ValueError(f'plot of {y_label}: there is no finite point to draw')
    values = [y for _, y in points] + ([reference[0]] if reference else [])
    logarithmic = min(values) > 0.0 and max(values) > 50.0 * min(values)
    x_axis = _Axis([x for x, _ in points], _LEFT, width - _RIGHT)
    # Names of several lines stand above the plot, where no line can cross them.
    top = _TOP + (_LINE_HEIGHT * (len(series) + 0.5) if len(series) > 1 else 0.0)
    y_axis = _Axis(values, height - _BOTTOM, top, logarithmic=logarithmic, pad=0.05)
    parts = _frame(width, height, top, x_axis, y_axis, x_label,
                   y_label + (' (log)' if logarithmic else ''))
    if reference:
        y = y_axis.at(reference[0])
        parts.append(
            f'<path class="reference" d="M{_LEFT:.1f} {y:.1f}H{width - _RIGHT:.1f}"/>'
            f'<text x="{width - _RIGHT:.1f}" y="{y - 4:.1f}" text-anchor="end">'
            f'{escape(reference[1])}</text>')
    for index, (name, line) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        parts.append(_line(name, thinned(line), x_axis, y_axis, colour, markers))
        if len(series) > 1:
            y = _LINE_HEIGHT * (index + 0.8)
            parts.append(
                f'<rect x="{_LEFT + 8:.1f}" y="{y - 8:.1f}" width="12" height="4" '
                f'fill="{colour}"/><text x="{_LEFT + 25:.1f}" y="{y:.1f}">{escape(name)}</text>')
    return _svg(width, height, f'{y_label} over {x_label}', parts)


def thinned(line: Points) -> list[tuple[float, float]]:
    """At most ``MAX_POINTS`` of a line's points, evenly chosen; first and last stay."""
    if len(line) <= MAX_POINTS:
        return [(x, y) for x, y in line]
    last = len(line) - 1
    return [(line[index][0], line[index][1]) for index in (
        round(place * last / (MAX_POINTS - 1)) for place in range(MAX_POINTS))]


def rate_plot(
    rows: Sequence[tuple[str, tuple[float, float, float, str] | None]], *, missing: str,
    width: int = 560,
) -> str:
    """
    Draw a bar with its interval for each row.

    Parameters
    ----------
    rows
        Name, and (rate, low, high, caption) with shares of 1, or None for a row that was not run.
    missing
        What such a row reads.
    width
        Size in pixels.

    """
    label, row_height, caption = 160.0, 30.0, 90.0
    height = round(_TOP + row_height * len(rows) + _BOTTOM)
    axis = _Axis([0.0, 1.0], label, width - caption)
    bottom = height - _BOTTOM
    parts: list[str] = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = axis.at(tick)
        parts.append(
            f'<path class="grid" d="M{x:.1f} {_TOP:.1f}V{bottom:.1f}"/>'
            f'<text x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{tick:.0%}</text>')
    for index, (name, row) in enumerate(rows):
        middle = _TOP + row_height * (index + 0.5)
        parts.append(f'<text x="{label - 8:.1f}" y="{middle + 4:.1f}" text-anchor="end">'
                     f'{escape(name)}</text>')
        if row is None:
            parts.append(f'<text class="missing" x="{label + 6:.1f}" y="{middle + 4:.1f}">'
                         f'{escape(missing)}</text>')
            continue
        rate, low, high, text = row
        parts.append(
            f'<rect x="{label:.1f}" y="{middle - 9:.1f}" height="18" '
            f'width="{axis.at(rate) - label:.1f}" fill="{COLOURS[0]}" fill-opacity="0.55"/>'
            f'<path class="interval" d="M{axis.at(low):.1f} {middle:.1f}H{axis.at(high):.1f}'
            f'M{axis.at(low):.1f} {middle - 5:.1f}v10M{axis.at(high):.1f} {middle - 5:.1f}v10"/>'
            f'<text x="{width - caption + 8:.1f}" y="{middle + 4:.1f}">{escape(text)}</text>')
    return _svg(width, height, 'success rates with their intervals', parts)


class _Axis:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float, *,
                 logarithmic: bool = False, pad: float = 0.0) -> None:
        self._logarithmic = logarithmic
        scaled = [self._scale(value) for value in values]
        low, high = min(scaled), max(scaled)
        margin = pad * (high - low) if high > low else max(abs(high), 1.0) * 0.5
        self.low, self.high = low - margin, high + margin
        self._start, self._end = start, end

    def _scale(self, value: float) -> float:
        return math.log10(value) if self._logarithmic else value

    def at(self, value: float) -> float:
        share = (self._scale(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        if not self._logarithmic:
            return nice_ticks(self.low, self.high)
        powers = range(math.ceil(self.low), math.floor(self.high) + 1)
        return [10.0**power for power in powers] or [10.0**(0.5 * (self.low + self.high))]


def _line(name: str, line: Points, x_axis: _Axis, y_axis: _Axis, colour: str,
          markers: bool) -> str:
    path, dots, pen = [], [], 'M'
    for x, y in line:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = 'M'
            continue
        left, top = x_axis.at(x), y_axis.at(y)
        path.append(f'{pen}{left:.1f} {top:.1f}')
        pen = 'L'
        if markers or len(line) == 1:
            dots.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="{colour}"/>')
    return (f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="2">'
            f'<title>{escape(name)}</title></path>' + ''.join(dots))


def _frame(width: int, height: int, top: float, x_axis: _Axis, y_axis: _Axis, x_label: str,
           y_label: str) -> list[str]:
    bottom, middle = height - _BOTTOM, 0.5 * (height - _BOTTOM + top)
    parts = []
    for tick in x_axis.ticks():
        x = x_axis.at(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>'
                     f'<text x="{x:.1f}" y="{bottom + 15:.1f}" text-anchor="middle">'
                     f'{tick:.6g}</text>')
    for tick in y_axis.ticks():
        y = y_axis.at(tick)
        parts.append(f'<path class="grid" d="M{_LEFT:.1f} {y:.1f}H{width - _RIGHT:.1f}"/>'
                     f'<text x="{_LEFT - 5:.1f}" y="{y + 4:.1f}" text-anchor="end">'
                     f'{tick:.4g}</text>')
    parts.append(f'<text x="{0.5 * (width + _LEFT):.1f}" y="{height - 8:.1f}" '
                 f'text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text transform="translate(13 {middle:.1f}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y_label)}</text>')
    return parts


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img"><title>{escape(title)}</title>'
            f'{"".join(parts)}</svg>')
