# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How the recorder tells how it is: ``/diagnostics``, one line in the terminal, ``~/state``."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
import sys
import time
from typing import Any

from rclpy.node import Node
from ssl_vla_ros.episodes.control import EpisodeControl
from ssl_vla_ros.episodes.health import Figures
from ssl_vla_ros.nodes.recorder_disk import Session
from ssl_vla_ros.nodes.recorder_inputs import Inputs
from ssl_vla_ros.nodes.reporting import Diagnostics

#: Where there is no terminal to redraw a line in, a recording logs one this often, in seconds.
_LOG_S = 10.0
#: A topic that comes and goes is warned about at most so many times in so many seconds.
_WARNINGS, _WARNINGS_S = 5, 5.0


class Reporter:
    """
    Health of a recorder, once a second, and of a topic that stands still at once.

    Parameters
    ----------
    node
        The recorder.
    status_line
        Whether to write the line in the terminal.

    """

    def __init__(self, node: Node, status_line: bool) -> None:
        self._node = node
        self._diagnostics = Diagnostics(node)
        self._status_line = status_line
        self._terminal = sys.stderr.isatty()
        self._logged_at = 0.0
        self._warned_at: dict[str, deque[float]] = {}
        self._unwarned: dict[str, int] = {}
        #: Standing still, and not told yet because there were too many warnings.
        self._held_back: set[str] = set()
        self._warned: set[str] = set()

    def report(self, inputs: Inputs, session: Session, control: EpisodeControl, period_s: float
               ) -> None:
        """Publish the diagnostics of a period, and write its line."""
        figures = inputs.figures(period_s)
        free, no_room = session.room()
        values: dict[str, Any] = {}
        for topic, item in figures.items():
            values |= {f'{topic} {name}': value for name, value in vars(item).items()
                       if value is not None}
            if control.running:
                account = inputs.books.intakes[topic].account
                values |= {f'{topic} {fate}': getattr(account, fate)
                           for fate in ('lost', 'dropped', 'rejected')}
                values |= {f'{topic} rejected {cause}': count
                           for cause, count in account.rejected_by_cause.items()}
        ages = [item.age_p50_ms for item in figures.values() if item.age_p50_ms is not None]
        values |= {'age_p50_ms': max(ages, default=0.0), 'free_disk_bytes': free,
                   'queue_depth': control.depth, 'episode': control.name or ''}
        errors = [no_room, '' if control.last is None else control.last.error]
        self._diagnostics.publish(
            values, warnings=inputs.warnings(figures), errors=list(filter(None, errors)),
            summary=control.phase)
        if self._status_line:
            self._write(self._line(figures, inputs, control, free), control.running)

    def standstills(self, inputs: Inputs, control: EpisodeControl) -> None:
        """Warn at once of topics that have just stopped, and say when they are back."""
        now = time.monotonic()
        found = inputs.standstills()
        for topic in self._held_back & {topic for topic, silent in found if not silent}:
            self._held_back.remove(topic)
        # One that has stopped for good is told, however often it came and went before.
        found += [(topic, silent) for topic in sorted(self._held_back)
                  if now - self._warned_at[topic][0] >= _WARNINGS_S
                  and (silent := inputs.health[topic].silent_s)]
        for topic, silent_s in found:
            if not silent_s:
                if topic in self._warned:
                    self._warned.remove(topic)
                    self._node.get_logger().info(f'{inputs.resolved[topic]} comes again')
                continue
            last = self._warned_at.setdefault(topic, deque(maxlen=_WARNINGS))
            if len(last) == _WARNINGS and now - last[0] < _WARNINGS_S:
                self._unwarned[topic] = self._unwarned.get(topic, 0) + 1
                self._held_back.add(topic)
                continue
            last.append(now)
            self._held_back.discard(topic)
            self._warned.add(topic)
            more = self._unwarned.pop(topic, 0)
            text = (f'{inputs.resolved[topic]} stands still: nothing for {silent_s * 1e3:.0f} ms'
                    + (f' ({more} more times since the last warning)' if more else ''))
            self._node.get_logger().warning(text)
            self._diagnostics.publish(
                {'episode': control.name or '', f'{topic} silent_ms': silent_s * 1e3},
                warnings=[text], summary=control.phase)

    def _line(self, figures: Mapping[str, Figures], inputs: Inputs, control: EpisodeControl,
              free: int) -> str:
        parts = [f'{control.phase} {control.name} {control.elapsed_s:.0f} s' if control.name
                 else control.phase]
        whole = control.running
        for topic, item in figures.items():
            age = '' if item.age_p50_ms is None else f' {item.age_p50_ms:.0f} ms'
            skew = '' if item.skew_ms is None else f' ±{item.skew_ms:.0f}'
            account = inputs.books.intakes[topic].account
            causes = {'lost': account.lost, 'dropped': account.dropped,
                      **account.rejected_by_cause}
            found = ', '.join(f'{count} {cause}' for cause, count in causes.items() if count)
            missing = f' ({found})' if found and control.running else ''
            whole = whole and not found
            parts.append(f'{_short(topic)} {item.rate_hz:.0f} Hz{age}{skew}{missing}')
        if whole:
            parts.append('nothing lost')
        return ' | '.join([*parts, f'{free / 1e9:.1f} GB free'])

    def _write(self, line: str, recording: bool) -> None:
        if self._terminal:
            print(f'\r\033[K{line}', end='', file=sys.stderr, flush=True)
        elif recording and time.monotonic() - self._logged_at >= _LOG_S:
            self._logged_at = time.monotonic()
            self._node.get_logger().info(line)


def _short(topic: str) -> str:
    """Leave out what every camera's topic ends with."""
    return topic.removeprefix('camera/').removesuffix('/image_raw').removesuffix('/compressed')


def describe_state(lifecycle: str, inputs: Inputs | None, control: EpisodeControl | None
                   ) -> dict[str, Any]:
    """Give the content of ``~/state``."""
    last = None if control is None else control.last
    return {
        'lifecycle': lifecycle,
        'state': 'idle' if control is None else control.phase,
        'episode': None if control is None else control.name,
        'success': None if control is None or not control.running else control.success,
        'counts': {} if control is None else control.counts(),
        'queue_depth': 0 if control is None else control.depth,
        'waiting_for': '' if inputs is None else inputs.not_ready(),
        'last': None if last is None else {
            'episode': last.name, 'status': last.status, 'reason': last.reason,
            'error': last.error,
            'counts': {topic: item.to_dict() for topic, item in last.accounts.items()}}}
