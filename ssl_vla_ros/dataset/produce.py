# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
From jobs to a dataset that appears at once: what builds, imports and updates share.

The dataset grows in ``OUT.part``: every episode is staged there on its own, so that a build that
was interrupted, however, goes on where it was. Episodes that an existing dataset has already, made
from the same source under the same contract, are taken from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
import shutil
from typing import Any

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.assemble import assemble
from ssl_vla_ros.dataset.encoders import AUTO, choose_encoder, GROUP, QUALITY
from ssl_vla_ros.dataset.files import building, finish, Progress, tell
from ssl_vla_ros.dataset.jobs import EpisodeJob
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.reuse import dataset_episodes
from ssl_vla_ros.dataset.staging import open_staged, StagedEpisode
from ssl_vla_ros.dataset.workers import stage, Task
from ssl_vla_ros.dataset.writer import check_sizes
from ssl_vla_ros.errors import DatasetError, UserError
from ssl_vla_ros.parallel import each

#: Raised when rows or pictures would come out otherwise: what was staged before is then stale.
_VERSION = 3
_STAGED, _DATASET = 'staged', 'dataset'
#: Reasons that an error lists: more say nothing new.
_SHOWN = 8


@dataclass(frozen=True)
class JobResult:
    """
    What became of a job: its episodes (usually one), or the reason it was refused.

    ``passing`` is of the reason; see ``workers.Staged``.
    """

    name: str
    episodes: tuple[StagedEpisode, ...]
    reason: str = ''
    reused: bool = False
    passing: bool = False


@dataclass(frozen=True)
class Produced:
    """A dataset that was written, or found to be as it should be (``changed`` is False)."""

    digest: str
    results: tuple[JobResult, ...]
    changed: bool
    encoder: str


def produce(target: Path, contract: Contract, jobs: Sequence[EpisodeJob], *, source: str,
            origin: Mapping[str, Any], progress: Progress | None = None,
            existing: Dataset | None = None, workers: int = 1, encoder: str = AUTO,
            keep_constant: bool = False, refused: Sequence[tuple[str, str]] = ()) -> Produced:
    """
    Write a dataset of what the jobs give, in their order.

    Parameters
    ----------
    target
        The dataset; it appears, or is replaced, when it is complete.
    contract, jobs
        What the dataset's rows are, and where they come from.
    source
        Where the jobs come from, for error messages.
    origin
        JSON-ready: what the dataset is made from, to be found in it again.
    progress
        Told after each episode.
    existing
        The dataset at ``target``, whose episodes may be taken over. Without one, whatever is
        there is replaced.
    workers
        Processes that read and encode; 1 does it in this one.
    encoder
        ``auto``, or one of ``encoders.OPTIONS``.
    keep_constant
        Take episodes, too, whose state or action never changes.
    refused
        Episodes of the source that have no job, and why: for the error if there is none at all.

    Raises
    ------
    DatasetError
        If no job gives an episode, another process builds ``target``, the encoder does not work,
        or the disk is full.

    """
    check_sizes(contract)
    chosen, why = choose_encoder(
        encoder, [(camera.height, camera.width) for camera in contract.cameras])
    with building(target, (_DATASET, *layout.TOP_LEVEL), keep=(_STAGED,)) as part:
        staged = part / _STAGED
        staged.mkdir(exist_ok=True)
        for left in staged.glob('.*'):
            shutil.rmtree(left)
        results, todo = _plan(jobs, contract, staged, existing, chosen, keep_constant)
        done = len(jobs) - len(todo)
        tell(progress, done, len(jobs), 'episodes')
        for number, staged_as in each(stage, [task for _, task in todo], workers):
            place, task = todo[number]
            results[place] = (
                JobResult(task.job.name, (), staged_as.reason, passing=staged_as.passing)
                if staged_as.reason else
                JobResult(task.job.name, _open(task.place, contract)))
            done += 1
            tell(progress, done, len(jobs), f'episodes: {task.job.name}')
        every = [results[index] for index in range(len(jobs))]
        episodes = [episode for result in every for episode in result.episodes]
        if not episodes:
            shutil.rmtree(part)
            reasons = [*(why for _, why in refused), *(result.reason for result in every)]
            raise DatasetError(f'{source}: none of the {len(reasons)} episodes can be used:\n'
                               + '\n'.join(f'  {reason}' for reason in reasons[:_SHOWN])
                               + ('\n  …' if len(reasons) > _SHOWN else ''))
        if existing is not None:
            _keep_what_is_there(target, existing, every)
        if existing is not None and _same(existing, episodes, contract):
            shutil.rmtree(part)
            return Produced(existing.digest(), tuple(every), False, '')
        digest = assemble(part / _DATASET, contract, episodes,
                          {**origin, 'encoder': chosen, 'encoder_chosen': why})
        finish(part / _DATASET, target, replace=True)
        shutil.rmtree(part)
    return Produced(digest, tuple(every), True, chosen)


def _plan(jobs: Sequence[EpisodeJob], contract: Contract, staged: Path,
          existing: Dataset | None, encoder: str, keep_constant: bool
          ) -> tuple[dict[int, JobResult], list[tuple[int, Task]]]:
    """Sort jobs into those that are done, or cannot be, and those to be staged."""
    kept: dict[str, list[StagedEpisode]] = {}
    if existing is not None and existing.contract.digest() == contract.digest():
        for episode in dataset_episodes(existing):
            kept.setdefault(str(episode.info['key']), []).append(episode)
    results: dict[int, JobResult] = {}
    todo: list[tuple[int, Task]] = []
    for index, job in enumerate(jobs):
        try:
            key = _key(job, contract)
        except UserError as error:
            results[index] = JobResult(job.name, (), str(error))
            continue
        if key in kept:
            results[index] = _taken(job.name, kept[key], keep_constant, reused=True)
            continue
        place = staged / key[:32]
        if place.is_dir():
            try:
                results[index] = _taken(job.name, _open(place, contract), keep_constant)
                continue
            except DatasetError:  # a disk that lost part of it: it is made anew
                shutil.rmtree(place)
        todo.append((index, Task(
            job, contract, place, key, encoder, keep_constant)))
    return results, todo


def _keep_what_is_there(target: Path, existing: Dataset, results: Sequence[JobResult]) -> None:
    """Refuse to drop an episode of a dataset for a reason that may be gone the next time."""
    there = {str(entry['source']).partition(' part ')[0] for entry in existing.episodes}
    lost = [result.reason for result in results if result.passing and result.name in there]
    if lost:
        raise DatasetError(
            f'{target}: was left as it was, because {len(lost)} of its episodes could not be made '
            f'again: {"; ".join(lost[:_SHOWN])}; mend that and run the same command again (what '
            'was made is kept)')


def _taken(name: str, episodes: Sequence[StagedEpisode], keep_constant: bool, *,
           reused: bool = False) -> JobResult:
    """Take what was made before, unless it was kept by a choice that holds no more."""
    dead = [str(episode.info['constant']) for episode in episodes if episode.info['constant']]
    if dead and not keep_constant:
        return JobResult(name, (), dead[0])
    return JobResult(name, tuple(episodes), reused=reused)


def _key(job: EpisodeJob, contract: Contract) -> str:
    text = '\n'.join((job.fingerprint(), contract.digest(), str(_VERSION), str(QUALITY),
                      str(GROUP)))
    return hashlib.sha256(text.encode()).hexdigest()


def _open(place: Path, contract: Contract) -> tuple[StagedEpisode, ...]:
    return tuple(open_staged(part, contract) for part in sorted(place.iterdir()))


def _same(existing: Dataset, episodes: Sequence[StagedEpisode], contract: Contract) -> bool:
    keys = ('task', 'success', 'digest')
    return layout.dataset_digest(contract, [
        {key: episode.info[key] for key in keys} for episode in episodes]) == existing.digest()
