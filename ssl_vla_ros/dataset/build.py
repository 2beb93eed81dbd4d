# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A session of episodes becomes a dataset, whole or not at all.

The dataset grows in ``OUT.part`` and is renamed when it is complete. A build that was interrupted
starts again from nothing: it is fast, and a half-written dataset is never seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
import time
from typing import Any

from ssl_vla_ros.contract import Contract, require_compatible
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.align import align_episode
from ssl_vla_ros.dataset.aligned import AlignReport
from ssl_vla_ros.dataset.files import building, finish, Progress, tell
from ssl_vla_ros.dataset.writer import DatasetWriter
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.errors import DatasetError, UserError

#: What may become rows; ``incomplete`` only where all that is wrong is an early end (a signal, too
#: little disk): its books say what became of every message up to there. Of a ``recovered`` one
#: nobody knows what was lost at its end, but every message in it is sound.
USABLE = ('complete', 'recovered', 'incomplete')
#: A lag with a smaller correlation says nothing.
SURE = 0.5


@dataclass(frozen=True)
class EpisodeResult:
    """
    What became of one recorded episode: its rows and report, or the reason it was refused.

    ``status`` is its own (``incomplete``: it ended early), '' of one that was refused;
    ``exact`` says whether what its publishers sent is known for every topic.
    """

    source: str
    rows: int
    task: str
    success: bool | None
    reason: str
    report: AlignReport | None
    status: str = ''
    exact: bool = True

    @property
    def kept(self) -> bool:
        """Whether it is in the dataset."""
        return not self.reason


@dataclass(frozen=True)
class BuildReport:
    """What a build did; ``episodes`` has an entry for every finished episode of the session."""

    session: str
    out: str
    digest: str
    episodes: tuple[EpisodeResult, ...]
    seconds: float

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
        lines += _unusual(self.kept)
        lines += [f'refused: {result.reason}' for result in self.refused]
        return '\n'.join(lines)


def build_dataset(session: str | Path, out: str | Path, contract: Contract | None = None,
                  progress: Progress | None = None, *, overwrite: bool = False, task: str = ''
                  ) -> BuildReport:
    """
    Build a dataset from a session's finished episodes.

    Parameters
    ----------
    session
        The recorder's directory.
    out
        The dataset to write.
    contract
        Which streams, sizes and rate; by default the one the first usable episode carries. Every
        episode must agree with it in cameras, state and action.
    progress
        Told after each episode.
    overwrite
        Whether an existing dataset in ``out`` may be replaced.
    task
        What was done, for episodes that were recorded without saying it.

    Returns
    -------
    BuildReport
        With a reason for every episode that is not in the dataset.

    Raises
    ------
    DatasetError
        If ``out`` exists, another process builds it, the disk is full, or no episode can be used.
    EpisodeError
        If there is no such session.

    """
    began = time.monotonic()
    target = Path(out)
    layout.check_target(target, overwrite=overwrite)
    paths = list_episodes(Path(session))
    if not paths:
        raise DatasetError(f'{session}: there is no finished episode; record some first')
    results: list[EpisodeResult] = []
    writer: DatasetWriter | None = None
    with building(target, layout.TOP_LEVEL) as part:
        for done, path in enumerate(paths, 1):
            try:
                episode = _usable(path)
                if writer is None:
                    chosen = contract or episode.contract
                    writer = DatasetWriter(part, chosen, chosen.rate_hz)
                results.append(_add(writer, episode, task))
            except UserError as error:
                results.append(EpisodeResult(str(path), 0, '', None, str(error), None))
            tell(progress, done, len(paths), f'build: {path.name}')
        if writer is None or not any(result.kept for result in results):
            reasons = '\n'.join(f'  {result.reason}' for result in results)
            raise DatasetError(
                f'{session}: none of the {len(paths)} episodes can be used:\n{reasons}')
        digest = writer.finish()
        finish(part, target, replace=overwrite)
    return BuildReport(
        str(session), str(target), digest, tuple(results), time.monotonic() - began)


def _usable(path: Path) -> Episode:
    episode = Episode.open(path)
    status = episode.info['status']
    # A recovered episode is taken with what nobody knows of it: what is in it is sound.
    faults = [] if status == 'recovered' else episode.faults
    if status not in USABLE or faults:
        reason = '; '.join(faults) or episode.info.get('reason') or 'no reason given'
        raise DatasetError(
            f'{path}: the episode is {status} ({reason}); mend the cause and record it again')
    return episode


def _add(writer: DatasetWriter, episode: Episode, otherwise: str) -> EpisodeResult:
    # A dataset may be built at another rate than the recording robot's.
    recorded = replace(episode.contract, rate_hz=writer.contract.rate_hz)
    require_compatible(recorded, writer.contract, str(episode.path))
    task, success = str(episode.info['task']).strip() or otherwise, episode.info['success']
    if not task:
        raise DatasetError(
            f'{episode.path}: task is empty: nothing says what was done; build with --task TEXT, '
            'which is taken for every episode without one')
    aligned = align_episode(episode, writer.contract)
    source = f'{episode.path.parent.name}/{episode.path.name}'
    writer.add_episode(aligned, task, success, source)
    return EpisodeResult(
        str(episode.path), len(aligned.ticks_ns), task, success, '', aligned.report,
        episode.info['status'], all(item.published_exact for item in episode.accounts.values()))


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
