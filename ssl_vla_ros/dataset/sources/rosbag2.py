# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Any rosbag2 through a robot contract: mcap or sqlite3, compressed or not, split or not.

A bag is an episode. The contract says which topics are cameras, state and action, the user what
was done: a bag says neither. Counts are those of the files; what ``metadata.yaml`` says otherwise
is told. Of a file that is cut off the readable part is used. Nothing beside the files is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.align import recording_runs
from ssl_vla_ros.dataset.align_tracks import require_streams
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.fingerprint import fingerprint
from ssl_vla_ros.dataset.sources.rosbag2_bag import (
    Bag, BagTopics, join_topics, normal_name)
from ssl_vla_ros.dataset.sources.rosbag2_files import Overview, storage_of
from ssl_vla_ros.dataset.sources.rosbag2_find import BagFiles, find_bags, METADATA
from ssl_vla_ros.dataset.sources.rosbag2_sketch import all_topics, describe, needs_contract
from ssl_vla_ros.errors import DatasetError, UserError

_Bags = Sequence[tuple[BagFiles, Sequence[Overview]]]


@dataclass(frozen=True)
class BagJob:
    """
    A bag that is not loaded yet.

    Attributes
    ----------
    files
        Where it lies.
    root
        The user's folder.
    task
        What was done.

    """

    files: BagFiles
    root: Path
    task: str

    @property
    def name(self) -> str:
        """Give its folder or file."""
        return self.files.name

    def fingerprint(self) -> str:
        """SHA-256 of its files and of the task."""
        about = self.files.files[0].parent / METADATA
        files = [*self.files.files, *([about] if about.is_file() else [])]
        return fingerprint(self.root, files, 'rosbag2', len(self.files.files), self.task)

    def load(self, contract: Contract) -> list[LoadedEpisode]:
        """Align the bag; several episodes where the contract splits it at gaps."""
        bag = Bag(self.files, contract)
        bag.require_cdr(contract)
        runs = recording_runs(bag, contract)
        return [LoadedEpisode(run, self.task, notes=tuple(bag.remarks), exact=False)
                for run in runs]


def open_rosbag2(path: Path, options: ImportOptions) -> Source:
    """
    Open a bag, or a folder of bags.

    Parameters
    ----------
    path
        A file (``.mcap``, ``.db3``, either with ``.zstd``), a bag's folder, or a folder above.
    options
        ``contract`` and ``task`` are needed; ``rate_hz`` replaces the contract's.

    Raises
    ------
    DatasetError
        If there is no bag, none that fits the contract, or something is not said: without a
        contract the message lists all topics and proposes one.

    """
    path = Path(path)
    bags = find_bags(path) if path.exists() else []
    if not bags:
        raise DatasetError(
            f'{path}: ' + ('holds no rosbag2: no file ends in .mcap or .db3, with or without '
                           '.zstd' if path.exists() else 'there is no such file or folder'))
    if options.contract is None:
        raise DatasetError(needs_contract(path, bags))
    if not options.task.strip():
        raise DatasetError(
            f'{path}: a rosbag2 does not say what was done in it; give it with --task TEXT, which '
            'is taken for every bag')
    contract = options.contract
    if options.rate_hz is not None:
        if not 1 <= options.rate_hz <= 1000:
            raise DatasetError(
                f'--rate is {options.rate_hz}, must be a whole number from 1 to 1000')
        contract = replace(contract, rate_hz=options.rate_hz)
    return _source(path, bags, contract, options.task.strip())


def _source(path: Path, bags: _Bags, contract: Contract, task: str) -> Source:
    problems, jobs, refused = Notes(), [], []
    root = path if path.is_dir() else path.parent
    for files, views in bags:
        for note in files.remarks:
            problems.add(note)
        reason = _refusal(files, views, contract)
        if reason:
            refused.append((files.name, reason))
        else:
            jobs.append(BagJob(files, root, task))
    if not jobs:
        reasons = [reason for _, reason in refused]
        raise DatasetError(reasons[0] if len(reasons) == 1 else '\n  '.join(
            [f'{path}: none of the {len(reasons)} bags can be used:', *reasons]))
    views = [view for _, some in bags for view in some]
    used = {normal_name(topic) for topic in contract.topics()}
    topics = all_topics(bags)
    storages = dict.fromkeys(storage_of(file) for files, _ in bags for file in files.files)
    return Source(
        kind=f'rosbag2 ({", ".join(storages)})', path=path, contract=contract, jobs=jobs,
        found={'bags': len(bags), 'files': sum(len(files.files) for files, _ in bags),
               'messages': sum(view.count for view in views), 'topics': len(topics)},
        refused=refused, problems=problems,
        left_out=[describe(info) for name, info in topics.items()
                  if normal_name(name) not in used])


def _refusal(files: BagFiles, views: Sequence[Overview], contract: Contract) -> str:
    """Say why a bag cannot be used, as far as that is known without reading it."""
    broken = [view.problem for view in views if view.problem]
    if files.problem or broken:
        return files.problem or broken[0]
    damage = ''.join(f'; it is not whole: {view.damage}' for view in views if view.damage)
    if not any(view.count for view in views):
        return f'{files.place}: the bag has no messages{damage}'
    try:
        topics = BagTopics(files, join_topics(view.topics for view in views), contract)
        topics.require_cdr(contract)
        require_streams(topics, contract)
    except UserError as error:
        return f'{error}{damage}'
    return ''
