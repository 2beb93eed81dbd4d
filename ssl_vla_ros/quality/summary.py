# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Many verdicts for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.verdict import DOUBTFUL, GOOD, NOTE, REFUSED, Verdict

#: Layout of the JSON file.
SCHEMA_VERSION = 1


def verdicts_text(verdicts: Sequence[Verdict]) -> str:
    """Return a line an episode with its reasons below it; notes that all have once, at the end."""
    common = [reason for reason in verdicts[0].reasons if reason.severity == NOTE] if (
        len(verdicts) > 1) else []
    common = [reason for reason in common
              if all(reason in verdict.reasons for verdict in verdicts)]
    width = max((len(verdict.name) for verdict in verdicts), default=0)
    lines = []
    for verdict in verdicts:
        lines.append(f'{verdict.name:<{width}}  {verdict.level}')
        lines += [f'    {reason.line()}' for reason in verdict.reasons if reason not in common]
    if common:
        lines += ['every episode', *(f'    {reason.line()}' for reason in common)]
    return '\n'.join(lines)


def summary_text(verdicts: Sequence[Verdict], labels: Sequence[str]) -> str:
    """
    Return how many episodes are good, and which checks found something in which episodes.

    Parameters
    ----------
    verdicts
        One an episode.
    labels
        What to call each episode in short, such as its number.

    """
    counts = {level: sum(verdict.level == level for verdict in verdicts)
              for level in (GOOD, DOUBTFUL, REFUSED)}
    many = 'episode' if len(verdicts) == 1 else 'episodes'
    lines = [f'{len(verdicts)} {many}: ' + ', '.join(
        f'{count} {level}' for level, count in counts.items())]
    for level in (REFUSED, DOUBTFUL):
        keys = dict.fromkeys(key for verdict in verdicts for key in verdict.keys(level))
        for key in keys:
            which = [label for verdict, label in zip(verdicts, labels, strict=True)
                     if key in verdict.keys(level)]
            lines.append(f'  {level:<8} {key:<10} in {len(which)}: {_shown(which)}')
    return '\n'.join(lines)


def _shown(labels: Sequence[str], count: int = 12) -> str:
    more = len(labels) - count
    return ', '.join(labels[:count]) + (f' and {more} more' if more > 0 else '')


def to_json(what: str, verdicts: Sequence[Verdict], thresholds: Thresholds) -> dict[str, Any]:
    """Return the verdicts, and what they were held against, as JSON-ready values."""
    return {
        'schema_version': SCHEMA_VERSION, 'checked': what,
        'counts': {level: sum(verdict.level == level for verdict in verdicts)
                   for level in (GOOD, DOUBTFUL, REFUSED)},
        'thresholds': thresholds.to_dict(),
        'episodes': [verdict.to_dict() for verdict in verdicts]}
