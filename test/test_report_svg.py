# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Plots: well-formed, inside their frame, and true to the values."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from hypothesis import given, strategies as st
import pytest

from ssl_vla_ros.report.svg import line_plot, MAX_POINTS, nice_ticks, rate_plot, thinned

NAMESPACE = '{http://www.w3.org/2000/svg}'


def _polylines(svg: str) -> list[list[tuple[float, float]]]:
    root = ElementTree.fromstring(svg)
    return [[(float(x), float(y)) for x, y in re.findall(r'[ML]([\d.-]+) ([\d.-]+)',
                                                         path.attrib['d'])]
            for path in root.iter(f'{NAMESPACE}path') if 'stroke-width' in path.attrib]


def test_lines_rise_where_the_values_rise_and_stay_in_the_frame() -> None:
    svg = line_plot({'a <b> & "c"': [(0, 1.0), (1, 2.0), (2, 4.0)], 'd': [(0, 3.0), (2, 3.0)]},
                    x_label='step', y_label='loss', width=400, height=200)
    first, second = _polylines(svg)
    assert [x for x, _ in first] == sorted(x for x, _ in first)
    heights = [y for _, y in first]
    assert heights == sorted(heights, reverse=True)   # SVG counts downwards
    assert heights[0] - heights[1] == pytest.approx((heights[1] - heights[2]) / 2, abs=0.1)
    assert second[0][1] == second[1][1]
    for x, y in first + second:
        assert 0 <= x <= 400 and 0 <= y <= 200


def test_wide_ranges_become_logarithmic() -> None:
    svg = line_plot({'loss': [(0, 1.0), (1, 0.1), (2, 0.01)]}, x_label='step', y_label='loss')
    (line,) = _polylines(svg)
    assert line[1][1] - line[0][1] == pytest.approx(line[2][1] - line[1][1], abs=0.2)
    assert 'loss (log)' in svg


def test_values_that_are_not_finite_leave_a_gap() -> None:
    svg = line_plot({'loss': [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0), (4, 2.0)]},
                    x_label='step', y_label='loss')
    assert 'nan' not in svg
    (line,) = _polylines(svg)
    assert len(line) == 4
    (path,) = [path.attrib['d'] for path in ElementTree.fromstring(svg).iter(f'{NAMESPACE}path')
               if 'stroke-width' in path.attrib]
    assert path.count('M') == 2
    with pytest.raises(ValueError, match='no finite point'):
        line_plot({'loss': [(0, math.nan)]}, x_label='step', y_label='loss')


@pytest.mark.parametrize('value', [0.0, 5.0, -3.0])
def test_one_point_and_flat_lines_are_drawn(value: float) -> None:
    ElementTree.fromstring(line_plot({'a': [(3.0, value)]}, x_label='x', y_label='y'))
    ElementTree.fromstring(
        line_plot({'a': [(0.0, value), (1.0, value)]}, x_label='x', y_label='y'))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_within_the_range_and_are_few(low: float, span: float) -> None:
    high = low + span
    ticks = nice_ticks(low, high)
    if high > low:
        assert 1 <= len(ticks) <= 7
        assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in ticks)


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    line = [(float(x), float(x * x)) for x in range(10_000)]
    kept = thinned(line)
    assert len(kept) == MAX_POINTS and kept[0] == line[0] and kept[-1] == line[-1]
    assert thinned(line[:10]) == line[:10]


def test_a_row_that_was_not_run_has_no_bar() -> None:
    svg = rate_plot([('ours', (0.5, 0.25, 0.75, '5 of 10')), ('theirs', None)],
                    missing='not run', width=560)
    root = ElementTree.fromstring(svg)
    (bar,) = root.iter(f'{NAMESPACE}rect')
    grid = [float(path.attrib['d'].split()[0][1:]) for path in root.iter(f'{NAMESPACE}path')
            if path.attrib.get('class') == 'grid']
    assert float(bar.attrib['x']) + float(bar.attrib['width']) == pytest.approx(grid[2], abs=0.1)
    (interval,) = [path.attrib['d'] for path in root.iter(f'{NAMESPACE}path')
                   if path.attrib.get('class') == 'interval']
    assert f'M{grid[1]:.1f} ' in interval and f'H{grid[3]:.1f}' in interval
    assert 'not run' in svg
