# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Reading ``metrics.jsonl`` of a run back: whole and in order, or an error that names the line."""

from __future__ import annotations

import json
from pathlib import Path

from ssl_vla_ros.errors import ConfigError

METRICS_FILE = 'metrics.jsonl'
_REMEDY = 'leave this run out, or train it again into a new directory'


def read_metrics(path: Path, log_every: int, planned: int, finished: bool
                 ) -> tuple[list[dict[str, float]], str]:
    """
    Read what a run reported.

    Parameters
    ----------
    path
        The file.
    log_every, planned
        Of the run's configuration: the loss is reported at step 1 and every ``log_every`` steps
        from there on, up to ``planned``.
    finished
        Whether the run is complete. The last line of one that was killed, or goes on right now,
        may be cut off.

    Returns
    -------
    tuple
        One mapping with ``step`` a line, and a sentence on a line that was cut off, or ''.

    Raises
    ------
    ConfigError
        Naming file and line, if one is broken, out of order, or lines are missing before it.

    """
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: cannot read it ({error}); {_REMEDY}') from error
    lines, cut = text.splitlines(), ''
    if lines and not text.endswith('\n') and not finished:
        cut = f'{path}:{len(lines)}: the last line is cut off; it was left out'
        lines.pop()
    found: list[dict[str, float]] = []
    reported = 1 - log_every
    for number, line in enumerate(lines, start=1):
        where = f'{path}:{number}'
        values = _parse(line, where)
        step = int(values['step'])
        if found and step < found[-1]['step']:
            raise ConfigError(f'{where}: step is {step}, but the line before has '
                              f'{int(found[-1]["step"])}; {_REMEDY}')
        if 'loss' in values:
            if step > reported + log_every:
                raise ConfigError(
                    f'{where}: step is {step}, but the loss is due at step '
                    f'{reported + log_every} (log_every is {log_every}): lines are missing before '
                    f'this one; {_REMEDY}')
            reported = step
        found.append(values)
    if reported < 1:
        raise ConfigError(f'{path}:1: no loss was ever reported; leave this run out, or train it '
                          'further')
    if finished and reported + log_every <= planned:
        raise ConfigError(
            f'{path}:{len(lines)}: the last loss is of step {reported}, but the run took '
            f'{planned} steps (log_every is {log_every}): lines are missing at the end; {_REMEDY}')
    return found, cut


def _parse(line: str, where: str) -> dict[str, float]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ConfigError(f'{where}: not valid JSON ({error}); {_REMEDY}') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{where}: {line[:40]!r} is no mapping; {_REMEDY}')
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f'{where}: {key} is {value!r}, must be a number; {_REMEDY}')
    if not isinstance(values.get('step'), int):
        raise ConfigError(f'{where}: step is {values.get("step")!r}, must be a whole number; '
                          f'{_REMEDY}')
    return values
