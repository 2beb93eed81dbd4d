# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A session of episodes becomes a dataset, whole or not at all; or the dataset is updated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import hashlib
from pathlib import Path
import time
from typing import Any

from ssl_vla_ros.contract import Contract, require_compatible
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.align import align_runs
from ssl_vla_ros.dataset.aligned import AlignReport, StreamReport
from ssl_vla_ros.dataset.build_report import BuildReport, EpisodeResult
from ssl_vla_ros.dataset.encoders import AUTO
from ssl_vla_ros.dataset.files import Progress, restore_replaced
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.produce import JobResult, produce
from ssl_vla_ros.dataset.staging import StagedEpisode
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.episodes.transaction import pending
from ssl_vla_ros.errors import DatasetError, UserError

#: What may become rows; ``incomplete`` only where all that is wrong is an early end (a signal, too
#: little disk): its books say what became of every message up to there. Of a ``recovered`` one
#: nobody knows what was lost at its end, but every message in it is sound.
USABLE = ('complete', 'recovered', 'incomplete')


@dataclass(frozen=True)
class SessionJob:
    """
    A recorded episode; ``task`` is what was done where the recording does not say it.

    What it is made from is its episode.json and its messages, the latter known by size and time:
    a bag is never written again once it is finished.
    """

    path: Path
    task: str

    @property
    def name(self) -> str:
        """Session and episode."""
        return f'{self.path.resolve().parent.name}/{self.path.name}'

    def fingerprint(self) -> str:
        """SHA-256 of episode.json, the bag's size and time, and the task that stands in."""
        found = hashlib.sha256(self.task.encode() + b'\0')
        try:
            for file in sorted(self.path.iterdir()):
                if file.suffix == '.mcap':
                    state = file.stat()
                    found.update(f'{file.name} {state.st_size} {state.st_mtime_ns}\0'.encode())
            found.update((self.path / 'episode.json').read_bytes())
        except OSError as error:
            raise DatasetError(f'{self.path}: cannot be read: {error}') from error
        return found.hexdigest()

    def load(self, contract: Contract) -> list[LoadedEpisode]:
        """
        Align the episode, or its runs between gaps where the contract says so.

        Refuses one that is broken, another robot's, or without a task.
        """
        episode = _usable(self.path)
        # A dataset may be built at another rate than the recording robot's.
        recorded = replace(episode.contract, rate_hz=contract.rate_hz)
        require_compatible(recorded, contract, str(self.path))
        task = str(episode.info['task']).strip() or self.task
        if not task:
            raise DatasetError(
                f'{self.path}: task is empty: nothing says what was done; build with --task TEXT, '
                'which is taken for every episode without one')
        return [LoadedEpisode(
            aligned, task, episode.info['success'], status=episode.info['status'],
            exact=all(item.published_exact for item in episode.accounts.values()))
            for aligned in align_runs(episode, contract)]


def build_dataset(session: str | Path, out: str | Path, contract: Contract | None = None,
                  progress: Progress | None = None, *, overwrite: bool = False, task: str = '',
                  workers: int = 1, encoder: str = AUTO,
                  keep_constant: bool = False) -> BuildReport:
    """
    Build a dataset from a session's finished episodes, or bring it up to date.

    Where ``out`` was built from the same session with the same contract, only episodes that are
    not in it yet are built.

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
        Whether a dataset in ``out`` may be replaced by one that is built from nothing.
    task
        What was done, for episodes that were recorded without saying it.
    workers
        Processes that work at the same time.
    encoder
        ``auto``, or one of ``encoders.OPTIONS``.
    keep_constant
        Take episodes, too, whose state or action never changes: dead recordings.

    Returns
    -------
    BuildReport
        With a reason for every episode that is not in the dataset.

    Raises
    ------
    DatasetError
        If ``out`` is something else, another process builds it, the disk is full, or no episode
        can be used.
    EpisodeError
        If there is no such session.

    """
    began = time.monotonic()
    target = Path(out)
    restore_replaced(target)
    paths = list_episodes(Path(session))
    if pending(Path(session)):
        raise DatasetError(
            f'{session}: an edit of it was interrupted; finish it with "ssl_vla episodes recover '
            f'{session} --yes" first')
    if not paths:
        raise DatasetError(f'{session}: there is no finished episode; record some first')
    chosen = contract or _first_contract(session, paths)
    origin = {'session': str(Path(session).resolve())}
    existing = None if overwrite else _to_update(target, origin, chosen, paths)
    layout.check_target(target, overwrite=overwrite or existing is not None)
    done = produce(
        target, chosen, [SessionJob(path, task) for path in paths],
        source=str(session), origin=origin, progress=progress, existing=existing,
        workers=workers, encoder=encoder, keep_constant=keep_constant)
    results = tuple(
        _result(str(path), result, episode)
        for path, result in zip(paths, done.results, strict=True)
        for episode in result.episodes or (None,))
    kept = {result.name for result in done.results if result.episodes}
    return BuildReport(
        str(session), str(target), done.digest, results, time.monotonic() - began, done.changed,
        tuple(sorted(_names(existing) - kept)))


def _first_contract(session: str | Path, paths: list[Path]) -> Contract:
    reasons = []
    for path in paths:
        try:
            return _usable(path).contract
        except UserError as error:
            reasons.append(f'  {error}')
    raise DatasetError(f'{session}: none of the {len(paths)} episodes can be used:\n'
                       + '\n'.join(reasons))


def _to_update(target: Path, origin: Mapping[str, str], contract: Contract, paths: list[Path]
               ) -> Dataset | None:
    """Open the dataset in ``target`` if a build may go on with it; None leaves it alone."""
    if not (target / layout.INFO).is_file():
        return None
    existing = Dataset.open(target)
    if existing.origin.get('session') != origin['session']:
        return None
    if existing.contract.digest() != contract.digest():
        raise DatasetError(
            f'{target}: was built with another contract than {contract.source}; choose another '
            'output directory, or build it anew with --overwrite')
    gone = sorted(_names(existing) - {SessionJob(path, '').name for path in paths})
    if gone:
        raise DatasetError(
            f'{target}: holds {len(gone)} episodes that the session has no more: '
            f'{", ".join(gone[:5])}{" …" if len(gone) > 5 else ""}; bring them back, choose '
            'another output directory, or build it anew without them with --overwrite')
    return existing


def _names(existing: Dataset | None) -> set[str]:
    """Names of the recorded episodes that are in a dataset."""
    return set() if existing is None else {
        str(entry['source']).partition(' part ')[0] for entry in existing.episodes}


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


def _result(path: str, result: JobResult, episode: StagedEpisode | None) -> EpisodeResult:
    if episode is None:
        return EpisodeResult(path, 0, '', None, result.reason, None)
    info = episode.info
    report = info['report']
    return EpisodeResult(
        path, episode.length, info['task'], info['success'], '',
        None if report is None else _report(report), info['status'], info['exact'],
        result.reused, dict(info.get('seconds', {})))


def _report(data: Mapping[str, Any]) -> AlignReport:
    """Make a report from what ``AlignReport.to_dict`` gave, by way of JSON."""
    return AlignReport(**{**data, 'streams': tuple(
        StreamReport(**stream) for stream in data['streams']),
        'limits': tuple(data['limits']), 'trimmed_s': tuple(data['trimmed_s'])})
