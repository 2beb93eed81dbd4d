# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What the inference node tells about itself: model_info and the diagnostics' values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
import time
from typing import Any

from ssl_vla_ros.nodes.watching import WATCHED
from ssl_vla_ros.runtime.bundle import Bundle
from ssl_vla_ros.runtime.frames import Mailbox
from ssl_vla_ros.runtime.timing import LatencyWindow

#: Without a published frame for this long, the diagnostics say so (seconds).
_SILENT_S = 1.0


#: What some causes mean to who has to mend them.
_MEANS = {'zero_stamp': 'zero_stamp (the camera driver does not stamp its pictures)',
          'stale': 'stale (older than max_age_s: late, or of another clock)',
          'future_stamp': 'future_stamp (of another clock)'}
_BOOKS = ('periods', 'missed_deadlines', 'silent_periods', 'late', 'clock_jumps')


def _books(mailbox: Mailbox) -> dict[str, int]:
    """Give the counts of deadlines, by their names in the diagnostics."""
    deadlines = mailbox.deadlines
    return dict(zip(_BOOKS, (deadlines.periods, deadlines.missed, deadlines.silent,
                             deadlines.late, deadlines.jumps), strict=True))


class InferenceReport:
    """Counts and latencies since the node was configured; percentiles of the newest 4096."""

    def __init__(self) -> None:
        self.age = LatencyWindow()
        self.inference = LatencyWindow()
        self.overhead = LatencyWindow()
        self.waited = LatencyWindow()
        self.foresight = LatencyWindow()
        self.drops: Counter[str] = Counter()
        self.unforeseen: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.gaps: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self._deadlines: Counter[str] = Counter()
        self._received_before: Counter[str] = Counter()
        self._drops_before: Counter[str] = Counter()
        self._sequence: dict[str, int] = {}
        self._mailbox: Mailbox | None = None
        self._last = (time.monotonic(), 0)
        self._missed_before = 0
        self._whole = False     # a report was made since the activation

    def begin(self, mailbox: Mailbox) -> None:
        """Go on with the mailbox of a new activation."""
        self.end()
        self._mailbox = mailbox
        self._sequence.clear()
        self._whole = False
        self._last = (time.monotonic(), self.age.summary().count)

    def end(self) -> None:
        """Keep the books of an activation that is over."""
        if self._mailbox is not None:
            self.drops.update(dict(self._mailbox.drops))
            self._deadlines.update(_books(self._mailbox))
            self._mailbox = None

    def count_sequence(self, camera: str, number: int | None) -> int:
        """
        Count and return how many pictures before this one never reached a callback.

        Some middleware (CycloneDDS) numbers nothing: None.
        """
        self.received[camera] += 1
        if number is None:
            return 0
        before = self._sequence.get(camera, number)
        self._sequence[camera] = number
        # Exact with one publisher; one that starts again counts from 1, which is no gap.
        gap = max(0, number - before - 1)
        if gap:
            self.gaps[camera] += gap
        return gap

    def add(self, age_s: float, inference_s: float, overhead_s: float, waited_s: float) -> None:
        """Note one published frame."""
        self.age.add(age_s)
        self.inference.add(inference_s)
        self.overhead.add(overhead_s)
        self.waited.add(waited_s)

    def model_info(self, bundle: Bundle, outputs: Sequence[str]) -> dict[str, Any]:
        """Describe the model and the layout of each output."""
        manifest, contract = bundle.manifest, bundle.contract
        encoder, model = manifest.encoder, manifest.world_model
        layout = {
            'features': f'32FC1, rows = tokens ({encoder.tokens}), columns = dimension '
                        f'({encoder.dim})'}
        if model is not None:
            layout['prediction'] = (
                f'32FC1, rows = horizon ({model.horizon} control periods ahead, the last command '
                f'held), columns = tokens * dimension ({encoder.tokens * encoder.dim})')
            layout['surprise'] = ('32FC1, 1x1: squared error of the one-step prediction of this '
                                  'tick over the usual squared change from tick to tick')
        layout |= {topic: shown for topic, (_, shown) in WATCHED.items()}
        return {
            'name': manifest.name, 'digest': manifest.digest,
            'encoder_sha256': manifest.files[encoder.file], 'objective': encoder.objective,
            'backend': bundle.backend, 'backend_note': bundle.backend_note,
            'robot': contract.robot, 'contract_digest': contract.digest(),
            'rate_hz': contract.rate_hz, 'cameras': list(encoder.cameras),
            'height': encoder.height, 'width': encoder.width,
            'tokens': encoder.tokens, 'dim': encoder.dim,
            'context': None if model is None else model.context,
            'horizon': None if model is None else model.horizon,
            'action_names': list(contract.action_names),
            'outputs': {name: layout[name] for name in outputs},
        }

    def diagnostics(self, bundle: Bundle, rejected: Mapping[str, Mapping[str, int]],
                    topics: Mapping[str, str]) -> tuple[dict[str, Any], list[str], list[str]]:
        """
        Return values by name, and what is worth a warning or an error; call once a second.

        ``topics`` are those of the cameras, by their names.
        """
        age, inference = self.age.summary(), self.inference.summary()
        overhead, foresight = self.overhead.summary(), self.foresight.summary()
        now = time.monotonic()
        elapsed, published = now - self._last[0], age.count - self._last[1]
        self._last = (now, age.count)
        values: dict[str, Any] = {
            'rate_hz': published / elapsed if elapsed > 0.0 else 0.0,
            'published': age.count,
            'age_p50_ms': 1e3 * age.p50_s, 'age_p99_ms': 1e3 * age.p99_s,
            'age_max_ms': 1e3 * age.max_s,
            'inference_p50_ms': 1e3 * inference.p50_s, 'inference_p99_ms': 1e3 * inference.p99_s,
            'overhead_p50_ms': 1e3 * overhead.p50_s, 'overhead_p99_ms': 1e3 * overhead.p99_s,
            'camera_wait_p99_ms': 1e3 * self.waited.summary().p99_s,
        }
        if foresight.count:
            values |= {'foresight_p50_ms': 1e3 * foresight.p50_s,
                       'foresight_p99_ms': 1e3 * foresight.p99_s}
        warnings: list[str] = []
        errors: list[str] = []
        drops = Counter(self.drops)
        mailbox = self._mailbox
        books = Counter(self._deadlines)
        if mailbox is not None:
            books.update(_books(mailbox))
            drops.update(dict(mailbox.drops))   # in one go: the worker may add a cause
        periods, missed = books['periods'], books['missed_deadlines']
        values |= {name: books[name] for name in _BOOKS}
        values['missed_fraction'] = missed / periods if periods else 0.0
        came = Counter(self.received)
        came.subtract(self._received_before)
        self._received_before = Counter(self.received)
        values |= {f'input_hz.{camera}': came[camera] / elapsed if elapsed > 0.0 else 0.0
                   for camera in topics}
        if missed > self._missed_before:
            warnings.append(
                f'control periods without features: {missed - self._missed_before}')
        self._missed_before = missed
        # Not in the first report of an activation, which comes before a second is over.
        whole, self._whole = self._whole, True
        if mailbox is not None and not published and whole and elapsed >= 0.5 * _SILENT_S:
            missing = [topic for camera, topic in topics.items() if not came[camera]]
            recent = drops - self._drops_before
            errors.append('no features in the last second: ' + (
                f'no pictures come on {", ".join(dict.fromkeys(missing))}' if missing else
                'what comes is left out: ' + ', '.join(
                    _MEANS.get(cause, cause) for cause, _ in recent.most_common(2))
                if recent else 'the network is at work'))
        self._drops_before = drops
        values |= {f'dropped.{cause}': count for cause, count in sorted(drops.items())}
        values |= {f'unforeseen.{cause}': count
                   for cause, count in sorted(self.unforeseen.items())}
        # Of copies: a camera may get its first one meanwhile, in another thread.
        values |= {f'transport_lost.{camera}': count for camera, count in dict(self.lost).items()}
        values |= {f'sequence_gaps.{camera}': count for camera, count in dict(self.gaps).items()}
        values |= {f'rejected.{topic}.{cause}': count for topic, causes in rejected.items()
                   for cause, count in sorted(causes.items())}
        values |= {'model': bundle.manifest.name, 'model_hash': bundle.manifest.digest[:12],
                   'backend': bundle.backend, 'backend_note': bundle.backend_note}
        return values, warnings, errors
