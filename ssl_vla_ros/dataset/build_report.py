# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a build did, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from ssl_vla_ros.dataset.aligned import AlignReport

#: A lag with a smaller correlation says nothing.
SURE = 0.5
#: What is cut off an episode's ends is told from so many seconds on.
CUT_S = 1.0


@dataclass(frozen=True)
class EpisodeResult:
    """
    What became of one recorded episode: its rows and report, or the reason it was refused.

    ``status`` is its own (``incomplete``: it ended early), '' of one that was refused;
    ``exact`` says whether what its publishers sent is known for every topic; ``reused``, whether
    the dataset had it already; ``seconds``, what building it took: ``load`` (stamps and numbers),
    ``encode`` (reading pictures, too), ``check`` (decoding and comparing them) and ``all``.
    """

    source: str
    rows: int
    task: str
    success: bool | None
    reason: str
    report: AlignReport | None
    status: str = ''
    exact: bool = True
    reused: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether it is in the dataset."""
        return not self.reason


@dataclass(frozen=True)
class BuildReport:
    """
    What a build did; ``episodes`` has an entry for every finished episode of the session.

    ``changed`` is False if the dataset was up to date already; ``dropped`` names episodes that it
    had before this build and has no more.
    """

    session: str
    out: str
    digest: str
    episodes: tuple[EpisodeResult, ...]
    seconds: float
    changed: bool = True
    dropped: tuple[str, ...] = ()

    @property
    def kept(self) -> list[EpisodeResult]:
        """Return the episodes in the dataset."""
        return [result for result in self.episodes if result.kept]

    @property
    def refused(self) -> list[EpisodeResult]:
        """Return the others."""
        return [result for result in self.episodes if not result.kept]

    @property
    def rows(self) -> int:
        """Rows of the dataset."""
        return sum(result.rows for result in self.kept)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self) | {
            'rows': self.rows, 'kept': len(self.kept),
            'ended_early': len(_of_status(self.kept, 'incomplete')),
            'recovered': len(_of_status(self.kept, 'recovered'))}

    def text(self) -> str:
        """Return the report for people: a line a stream, then totals and refusals."""
        lines = list(_stream_lines(self.kept))
        lags = [result.report.lag_s for result in self.kept
                if result.report is not None and result.report.lag_s is not None
                and (result.report.lag_correlation or 0.0) >= SURE]
        if lags:
            lines.append(f'state follows action after {sorted(lags)[len(lags) // 2]:.3f} s '
                         f'(median of {len(lags)} episodes that show it)')
        flagged = sum(result.report.flagged for result in self.kept if result.report)
        lines.append(
            f'kept {len(self.kept)} of {len(self.episodes)} episodes, {self.rows} rows, '
            f'{flagged} flagged, in {self.out} ({self.seconds:.1f} s)')
        if not self.changed:
            lines.append('it was up to date: nothing was written')
        elif reused := sum(result.reused for result in self.kept):
            lines.append(f'{reused} of them were there, {len(self.kept) - reused} are new')
        lines += _cut_lines(self.kept)
        if self.dropped:
            lines.append(f'NOT IN IT ANY MORE, for the reasons below: {", ".join(self.dropped)}')
        lines += _unusual(self.kept)
        lines += [f'refused: {result.reason}' for result in self.refused]
        return '\n'.join(lines)


def _of_status(kept: list[EpisodeResult], status: str) -> list[EpisodeResult]:
    return [result for result in kept if result.status == status]


def _unusual(kept: list[EpisodeResult]) -> Iterator[str]:
    early, recovered = _of_status(kept, 'incomplete'), _of_status(kept, 'recovered')
    if early:
        vague = sum(not result.exact for result in early)
        yield (f'of these, {len(early)} ended early: whole up to there, without an outcome unless '
               'one was marked' + (f' (counts of {vague} not exact)' if vague else ''))
    if recovered:
        yield (f'of these, {len(recovered)} recovered after a kill: what was lost at the end is '
               'not known (counts not exact)')


def _cut_lines(kept: list[EpisodeResult]) -> Iterator[str]:
    """Say how much of the recordings lies outside of the rows, and because of which stream."""
    cuts = [(sum(result.report.trimmed_s), result) for result in kept if result.report]
    long = [item for item in cuts if item[0] >= CUT_S]
    if long:
        worst, result = max(long, key=lambda item: item[0])
        assert result.report is not None
        place = result.report.trimmed_s[1] >= result.report.trimmed_s[0]
        words = 'ended before the others' if place else 'began after the others'
        yield (f'{sum(seconds for seconds, _ in long):.1f} s at the ends of {len(long)} episodes '
               f'are in no row, because a stream was missing; most in {result.source}: '
               f'{worst:.1f} s, where {result.report.limits[place]} {words}')


def _stream_lines(kept: list[EpisodeResult]) -> Iterator[str]:
    streams: dict[str, list[Any]] = {}
    for result in kept:
        for stream in result.report.streams if result.report else ():
            streams.setdefault(stream.name, []).append(stream)
    for name, found in streams.items():
        count = len(found)
        rejected: dict[str, int] = {}
        for stream in found:
            for cause, number in stream.rejected.items():
                rejected[cause] = rejected.get(cause, 0) + number
        line = (f'{name}: {sum(stream.rate_hz for stream in found) / count:.2f} Hz, '
                f'{sum(stream.gaps for stream in found)} gaps '
                f'(longest {max(stream.longest_s for stream in found) * 1e3:.0f} ms), '
                f'skew p50 {sum(stream.skew_p50_s for stream in found) / count * 1e3:.1f} ms, '
                f'p99 at most {max(stream.skew_p99_s for stream in found) * 1e3:.1f} ms')
        repeated = sum(stream.repeated for stream in found)
        if name.startswith('image.') and repeated:
            line += f', {repeated} pictures taken twice'
        if rejected:
            line += ', rejected ' + ', '.join(
                f'{number} {cause}' for cause, number in sorted(rejected.items()))
        if not found[0].stamped:
            line += ', by receive time (no header)'
        yield line
