# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A demo report on one terminal screen (80 columns, 24 lines for up to ten topics)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_vla_ros.report.values import (
    COUNTERS, duration, memory, NOT_RUN, number, part, POLICIES, recording_rows, shown, success,
    unaccounted)

_LABEL = 24
_BAR = 19


def demo_table(report: Mapping[str, Any]) -> str:
    """
    Render the report dict of a demo as text.

    Whatever is missing reads "not run". A topic whose counts do not add up is marked.
    """
    lines = [f'{"policy":<{_LABEL}}{"lifted":>9}{"success":>9}   95 % interval (Wilson)']
    lines += [_policy(report, key, label) for key, label in POLICIES.items()]
    if 'policy' in report:
        lines.append('  (all but the first in process, so without the latency of nodes)')
    lines += _world_model(part(report, 'world_model'))
    lines.append(_inference(part(report, 'inference')))
    lines += _recording(report)
    lines.append(
        f'{"time and peak memory":<{_LABEL}}{duration(number(report, "wall_s"))}, '
        f'{memory(number(report, "peak_rss_mb"))}')
    return '\n'.join(line.rstrip() for line in lines)


def _policy(report: Mapping[str, Any], key: str, label: str) -> str:
    row = success(report, key)
    if row is None:
        return f'  {label:<{_LABEL - 2}}{NOT_RUN:>9}'
    # The bar shows the interval, and within it the rate.
    cells = [' '] * (_BAR + 1)
    for cell in range(round(row.low * _BAR), round(row.high * _BAR) + 1):
        cells[cell] = '-'
    cells[round(row.rate * _BAR)] = 'o'
    return (f'  {label:<{_LABEL - 2}}{f"{row.successes} of {row.rollouts}":>9}'
            f'{row.rate:>9.0%}   {row.low:>4.0%} to {row.high:>4.0%} |{"".join(cells)}|')


def _world_model(world_model: Mapping[str, Any]) -> list[str]:
    ratio = number(world_model, 'error_ratio_h8')
    shuffled = number(world_model, 'error_ratio_h8_shuffled')
    label = f'{"world model, 8 ticks":<{_LABEL}}'
    if ratio is None and shuffled is None:
        return [label + NOT_RUN]
    return [f'{label}{shown(ratio, "{:.2f}")} x the error of copying the last frame',
            f'{"":<{_LABEL}}{shown(shuffled, "{:.2f}")} x with shuffled actions']


def _inference(inference: Mapping[str, Any]) -> str:
    label = f'{"inference":<{_LABEL}}'
    if not inference:
        return label + NOT_RUN
    missed = number(inference, 'missed_fraction')
    return (f'{label}{shown(number(inference, "rate_hz"), "{:.1f} Hz")}, age '
            f'p50 {shown(number(inference, "age_p50_ms"), "{:.1f}")} '
            f'p99 {shown(number(inference, "age_p99_ms"), "{:.1f} ms")}, '
            f'missed or late {NOT_RUN if missed is None else f"{missed:.2%}"}')


def _recording(report: Mapping[str, Any]) -> list[str]:
    rows = recording_rows(report)
    if not rows:
        return [f'{"recording":<{_LABEL}}{NOT_RUN}']
    width = max(_LABEL, 2 + max(len(topic) for topic in rows)) + 1
    lines = [f'{"recording":<{width}}' + ''.join(f'{counter:>10}' for counter in COUNTERS)]
    for topic, row in rows.items():
        counts = ''.join(f'{NOT_RUN if count is None else count:>10}' for count in row)
        missing = unaccounted(row)
        mark = f'  UNACCOUNTED: {missing}' if missing else ''
        lines.append(f'{"  " + topic:<{width}}{counts}{mark}')
    return lines
