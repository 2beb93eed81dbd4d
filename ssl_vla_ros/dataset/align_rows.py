# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The rows of a recording before anybody has decided whether they are good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset import clock
from ssl_vla_ros.dataset.align_pictures import TickPictures
from ssl_vla_ros.dataset.aligned import AlignedEpisode, AlignReport, StreamReport


@dataclass(frozen=True)
class StreamRows:
    """
    What one stream gives to the rows.

    Attributes
    ----------
    name, topic, stamped
        As in its report.
    times
        (N,) int64 stamps of what is good.
    rejected
        Messages that were not used, by cause.
    index
        (T,) the sample nearest to what each tick takes, -1 where there is none.
    skew_s
        (T,) float32 seconds, NaN where there is no sample.
    over
        (T,) bool: the skew is over the bound; None for a stream that may be missing.

    """

    name: str
    topic: str
    stamped: bool
    times: clock.Stamps
    rejected: Mapping[str, int]
    index: NDArray[np.int64]
    skew_s: NDArray[np.float32]
    over: NDArray[np.bool_] | None

    def part(self, start: int, stop: int, first: bool) -> StreamRows:
        """Give what the rows from ``start`` up to ``stop`` take."""
        index = self.index[start:stop]
        used = index[index >= 0]
        low, high = (int(used.min()), int(used.max()) + 1) if len(used) else (0, 0)
        return replace(
            self, times=self.times[low:high], rejected=self.rejected if first else {},
            index=np.where(index >= 0, index - low, -1), skew_s=self.skew_s[start:stop],
            over=None if self.over is None else self.over[start:stop])

    def report(self) -> StreamReport:
        """Describe how it came and how well it meets the ticks."""
        rate, gaps, longest = clock.intervals(self.times)
        known = self.skew_s[np.isfinite(self.skew_s)].astype(np.float64)
        p50, p99 = np.quantile(known, [0.5, 0.99]) if len(known) else (0.0, 0.0)
        repeated = int((np.diff(self.index) == 0).sum()) if len(self.times) else 0
        return StreamReport(
            name=self.name, topic=self.topic, messages=len(self.times), stamped=self.stamped,
            rate_hz=rate, gaps=gaps, longest_s=longest, skew_p50_s=float(p50),
            skew_p99_s=float(p99), repeated=repeated, rejected=dict(self.rejected))


@dataclass(frozen=True)
class Rows:
    """
    Every row of a recording.

    Attributes
    ----------
    ticks_ns
        (T,) int64.
    rate_hz
        Ticks a second.
    pictures
        By camera.
    values
        ``state``, ``action`` and ``evaluation``, each (T, D) float64.
    streams
        One entry a stream, cameras first.
    lost
        Ticks missing at the end, by the stream that stopped early; at most one entry.
    limits
        Which stream set the first and which the last tick.
    span_ns
        First and last stamp of the recording.

    """

    ticks_ns: clock.Stamps
    rate_hz: int
    pictures: Mapping[str, TickPictures]
    values: Mapping[str, NDArray[np.float64]]
    streams: tuple[StreamRows, ...]
    lost: Mapping[str, int]
    limits: tuple[str, str]
    span_ns: tuple[int, int]

    @property
    def over(self) -> dict[str, NDArray[np.bool_]]:
        """Rows over the bound, by stream."""
        return {stream.name: stream.over for stream in self.streams if stream.over is not None}

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Rows in which some stream is over the bound."""
        every = np.array(list(self.over.values()), dtype=bool)
        return np.asarray(every.any(axis=0), dtype=bool)

    def complaint(self, max_skew_s: float, max_fraction: float) -> str:
        """Say why there are too many flagged ticks; '' if there are not."""
        over, lost = self.over, sum(self.lost.values())
        count, total = int(self.flagged.sum()) + lost, len(self.ticks_ns) + lost
        if count <= max_fraction * total:
            return ''
        skews = {stream.name: stream.skew_s for stream in self.streams}
        causes = [
            f'{name} in {int(mask.sum())} (up to {float(np.nanmax(skews[name])):.3f} s off)'
            for name, mask in over.items() if mask.any()]
        causes += [f'{name} ended {number} ticks before the others'
                   for name, number in self.lost.items()]
        return (f'{count} of {total} ticks lack data within sync.max_skew_s = {max_skew_s:g} s, '
                f'sync.max_flagged_fraction allows {max_fraction:g}: {"; ".join(causes)}')

    def clean_runs(self, least: int) -> list[tuple[int, int]]:
        """Find the longest stretches of at least so many rows without a flagged one."""
        edges = np.flatnonzero(np.diff(np.concatenate([[True], self.flagged, [True]])))
        return [(int(start), int(stop))
                for start, stop in zip(edges[::2], edges[1::2], strict=True)
                if stop - start >= least]

    def part(self, start: int, stop: int, first: bool) -> Rows:
        """
        Give the rows from ``start`` up to ``stop`` as a recording of their own.

        Refused messages are counted once, in the ``first`` part.
        """
        return replace(
            self, ticks_ns=self.ticks_ns[start:stop],
            pictures={name: replace(found, index=found.index[start:stop])
                      for name, found in self.pictures.items()},
            values={name: found[start:stop] for name, found in self.values.items()},
            streams=tuple(stream.part(start, stop, first) for stream in self.streams),
            lost=self.lost if stop == len(self.ticks_ns) else {},
            limits=(self._flagging(start - 1) or self.limits[0],
                    self._flagging(stop) or self.limits[1]))

    def _flagging(self, row: int) -> str:
        """Name a stream that is over the bound in a row; '' if there is no such row."""
        if not 0 <= row < len(self.ticks_ns):
            return ''
        return next(name for name, mask in self.over.items() if mask[row])

    def episode(self) -> AlignedEpisode:
        """Give the rows as an episode."""
        lag = clock.command_lag(self.values['action'], self.values['state'], self.rate_hz)
        flagged = self.flagged
        report = AlignReport(
            streams=tuple(stream.report() for stream in self.streams),
            flagged=int(flagged.sum()), lost_ticks=sum(self.lost.values()), limits=self.limits,
            trimmed_s=((int(self.ticks_ns[0]) - self.span_ns[0]) / clock.SECOND,
                       (self.span_ns[1] - int(self.ticks_ns[-1])) / clock.SECOND),
            lag_s=None if lag is None else lag[0], lag_correlation=None if lag is None else lag[1])
        return AlignedEpisode(
            ticks_ns=self.ticks_ns, pictures=self.pictures,
            state=self.values['state'].astype(np.float32),
            action=self.values['action'].astype(np.float32),
            evaluation=self.values['evaluation'].astype(np.float32),
            skew_s={stream.name: stream.skew_s for stream in self.streams}, flagged=flagged,
            report=report)
