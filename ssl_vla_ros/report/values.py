# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Look-ups in a demo report, which may lack any part: what was not run is never shown as zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssl_vla_ros.report.wilson import wilson_interval

NOT_RUN = 'not run'
#: The policies a demo compares, in the order they are shown, and their names for people.
POLICIES: Mapping[str, str] = {
    'ssl': 'SSL, through the nodes',
    'ssl_in_process': 'SSL, in process',
    'true_pose': 'true pose (ceiling)',
    'random': 'random encoder',
    'imagenet': 'ImageNet encoder',
    'proprioception': 'proprioception alone',
}
COUNTERS = ('published', 'written', 'lost', 'dropped', 'rejected')


@dataclass(frozen=True)
class Success:
    """Lifts of one policy with their Wilson interval (shares of 1)."""

    successes: int
    rollouts: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.rollouts


def part(report: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a mapping inside the report; empty where it is missing or None."""
    value = report.get(key)
    return value if isinstance(value, Mapping) else {}


def number(source: Mapping[str, Any], key: str) -> float | None:
    """Return a number, or None where it is missing; booleans and texts are no numbers."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def numbers(source: Mapping[str, Any], key: str) -> list[float]:
    """Return a list of numbers, or an empty one where it is missing."""
    value = source.get(key)
    return [float(item) for item in value] if isinstance(value, list | tuple) else []


def shown(value: float | None, pattern: str) -> str:
    """Show a number by a format pattern such as ``'{:.1f} ms'``, or ``not run``."""
    return NOT_RUN if value is None else pattern.format(value)


def success(report: Mapping[str, Any], policy: str) -> Success | None:
    """
    Rollouts of one policy, or None where there are none.

    Raises
    ------
    ValueError
        If more rollouts succeeded than were run.

    """
    row = part(part(report, 'policy'), policy)
    successes, rollouts = number(row, 'successes'), number(row, 'rollouts')
    if successes is None or rollouts is None or rollouts == 0:
        return None
    return Success(int(successes), int(rollouts),
                   *wilson_interval(int(successes), int(rollouts)))


def recording_rows(report: Mapping[str, Any]) -> dict[str, list[int | None]]:
    """Return the counts of each recorded topic in the order of ``COUNTERS``; None if unknown."""
    recording = part(report, 'recording')
    topics: dict[str, list[int | None]] = {}
    for counter in COUNTERS:
        for topic in part(recording, counter):
            topics.setdefault(topic, [])
    for topic, row in topics.items():
        for counter in COUNTERS:
            value = number(part(recording, counter), topic)
            row.append(None if value is None else int(value))
    return topics


def unaccounted(row: list[int | None]) -> int | None:
    """Return how many published messages are lost track of; None where a count is missing."""
    published, *rest = row
    known = [count for count in rest if count is not None]
    if published is None or len(known) != len(rest):
        return None
    return published - sum(known)


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return NOT_RUN
    if seconds < 60.0:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02d} s'


def memory(megabytes: float | None) -> str:
    """Megabytes as people say them."""
    if megabytes is None:
        return NOT_RUN
    return f'{megabytes:.0f} MB' if megabytes < 1000.0 else f'{megabytes / 1000.0:.1f} GB'
