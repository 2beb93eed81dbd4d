# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
LeRobot v3.0, by anybody: many episodes in one Parquet file and in one video.

A dataset that was built by this package (``meta/contract.json``) keeps its own contract, stamps,
skews, flags and outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.aligned import AlignedEpisode, AlignReport, stream_labels, StreamReport
from ssl_vla_ros.dataset.files import read_json
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.fingerprint import fingerprint
from ssl_vla_ros.dataset.sources.lerobot_common import (
    ACTION, camera_names, Described, EVALUATION, STATE)
from ssl_vla_ros.dataset.sources.lerobot_rows import needed, Rows, unknown_skews
from ssl_vla_ros.dataset.sources.lerobot_v3_meta import Meta, sentences
from ssl_vla_ros.dataset.sources.lerobot_video import SpanPictures, VideoSpan
from ssl_vla_ros.dataset.sources.made_contract import choose_contract
from ssl_vla_ros.errors import DatasetError

_STAMPS, _FLAGGED = 'stamp_ns', 'flagged'


def open_lerobot_v3(path: str | Path, options: ImportOptions) -> Source:
    """
    Open a LeRobot v3.0 dataset.

    Parameters
    ----------
    path
        Its root, which holds ``meta/info.json``.
    options
        ``task`` serves episodes whose rows name no sentence, ``robot`` a dataset that names none;
        a ``contract`` chooses cameras and values by name.

    Raises
    ------
    DatasetError
        If it is no such dataset, or nothing of it can be used.
    ContractError
        If it has a contract of its own, which is wrong.

    """
    meta = Meta.read(Path(path))
    info, names = meta.info, camera_names(meta.cameras)
    vectors = {name: info.names(name, part) for name, part in info.vectors()}
    if EVALUATION in info.features and (info.root / layout.CONTRACT).is_file():
        vectors[EVALUATION] = info.names(EVALUATION, 'evaluation')
    described = Described(
        info=info.path, fps=info.fps, columns=info.columns(), vectors=vectors,
        cameras=tuple(info.camera(names[key], key, dict.fromkeys(
            episode.spans[key].path for episode in meta.episodes if key in episode.spans))
            for key in meta.cameras))
    contract = choose_contract(
        options, _own_contract(meta, described)
        or info.contract(described, options.robot), info.root)
    marks = _marks(info.root, meta) if (info.root / layout.CONTRACT).is_file() else None
    bad = [episode for episode in meta.episodes if episode.fault]
    if len(bad) == len(meta.episodes):
        raise DatasetError(f'{info.root}: none of the {len(bad)} episodes can be used; the first: '
                           f'{bad[0].fault}')
    wanted = {camera.key for camera in described.cameras if camera.name in contract.camera_names}
    return Source(
        kind=f'LeRobot {info.version}', path=info.root, contract=contract,
        jobs=[_Job(info.root, described, episode.number, episode.length, episode.tasks,
                   episode.data, episode.first_row,
                   {names[key]: span for key, span in episode.spans.items() if key in wanted},
                   options.task, None if marks is None else marks.get(episode.number, {}))
              for episode in meta.episodes if not episode.fault],
        refused=[(f'episode {episode.number}', episode.fault) for episode in bad],
        found=info.found(described, len(meta.episodes), len(meta.tasks)),
        problems=info.notes, left_out=_left_out(meta, described, contract))


def _own_contract(meta: Meta, described: Described) -> Contract | None:
    """Read the contract the dataset was built with, held against its features."""
    path = meta.info.root / layout.CONTRACT
    if not path.is_file():
        return None
    contract = parse_contract(read_json(path), str(path))
    there = {'state': described.vectors.get(STATE, ()),
             'action': described.vectors.get(ACTION, ()),
             'cameras': tuple(camera.name for camera in described.cameras)}
    said = {'state': contract.state_names, 'action': contract.action_names,
            'cameras': contract.camera_names}
    for part, names in said.items():
        if set(names) != set(there[part]):
            raise DatasetError(
                f'{path}: {part} is {list(names)}, meta/info.json and the files have '
                f'{list(there[part])}: remove the contract, or give one with --contract')
    if contract.rate_hz != described.fps:
        raise DatasetError(f'{path}: rate_hz is {contract.rate_hz}, meta/info.json says fps: '
                           f'{described.fps}')
    return contract


def _marks(root: Path, meta: Meta) -> dict[int, Mapping[str, Any]]:
    """Read what this package wrote of each episode beside LeRobot's own: its outcome, report."""
    entries = read_json(root / layout.EXTRA).get('episodes')
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetError(f'{root / layout.EXTRA}: episodes must be a list of objects')
    keys = ('success', 'status', 'exact', 'report')
    found: dict[int, Mapping[str, Any]] = {}
    for place, entry in enumerate(entries):
        number = entry.get('episode_index', place)
        if entry.get('success') not in (None, True, False):
            raise DatasetError(f'{root / layout.EXTRA}: success of episode {number} is '
                               f'{entry["success"]!r}, must be true, false or null')
        found[number] = {key: entry[key] for key in keys if key in entry}
    lacking = [episode.number for episode in meta.episodes if episode.number not in found]
    if lacking:
        meta.info.notes.add(f'{layout.EXTRA} has no entry of the episodes {lacking}: whether '
                            'they achieved their task is not known')
    return found


def _left_out(meta: Meta, described: Described, contract: Contract) -> list[str]:
    # The contract says which streams are unstamped, so that column is made anew.
    own = {_STAMPS, _FLAGGED, layout.UNSTAMPED,
           *(layout.skew_key(label) for label, _, _ in stream_labels(contract))}
    return [name for name in meta.info.left_out(described, contract) if name not in own]


@dataclass(frozen=True)
class _Job:
    """One episode that is not loaded yet; ``marks`` is None in a dataset of others."""

    root: Path
    described: Described
    number: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    first_row: int
    spans: Mapping[str, VideoSpan]
    otherwise: str
    marks: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """Give the name."""
        return f'episode {self.number}'

    def fingerprint(self) -> str:
        """Digest what the episode is made from."""
        return fingerprint(
            self.root, [self.data, *(span.path for span in self.spans.values()),
                        *([self.root / layout.TASKS] if sentences(self.root) else [])],
            self.number, self.length, self.tasks, self.first_row, self.otherwise,
            {name: [span.starts_s[span.place], span.first, span.needed]
             for name, span in self.spans.items()},
            self.described.fps, self.marks and dict(self.marks),
            {name: list(names) for name, names in self.described.vectors.items()})

    def load(self, contract: Contract) -> LoadedEpisode:
        """
        Read the rows; the pictures are read while they are iterated.

        Raises
        ------
        DatasetError
            If the episode must be refused.

        """
        skews = [layout.skew_key(label) for label, _, _ in stream_labels(contract)]
        rows = self._rows(_STAMPS, _FLAGGED, *skews)
        state = rows.vector(STATE, contract.state_names)
        action = rows.vector(ACTION, contract.action_names)
        rows.check_columns(self.number)
        rows.check_moves(state, action, contract)
        evaluation = np.full((self.length, len(contract.evaluation_names)), np.nan, np.float32)
        if set(contract.evaluation_names) <= set(self.described.vectors.get(EVALUATION, ())):
            evaluation = rows.vector(EVALUATION, contract.evaluation_names)
        skew_s = unknown_skews(contract, self.length)
        flagged = np.zeros(self.length, dtype=bool)
        ticks_ns = rows.stamps()
        if self.marks is not None:  # of others, columns of these names mean something else
            skew_s |= {label: rows.values(layout.skew_key(label))[:, 0].astype(np.float32)
                       for label in skew_s if rows.has(layout.skew_key(label))}
            if rows.has(_FLAGGED):
                flagged = rows.values(_FLAGGED)[:, 0].astype(bool)
            if rows.has(_STAMPS):
                ticks_ns = rows.whole(_STAMPS)
        aligned = AlignedEpisode(
            ticks_ns=ticks_ns, pictures=self._pictures(contract, rows.odd), state=state,
            action=action, evaluation=evaluation, skew_s=skew_s, flagged=flagged,
            report=_report((self.marks or {}).get('report')))
        task = rows.task(sentences(self.root), self.tasks, self.otherwise, layout.TASKS)
        marks = self.marks or {}
        said = marks.get('success')
        return LoadedEpisode(
            aligned, task, rows.success() if said is None else said, tuple(rows.odd),
            str(marks.get('status') or ''), bool(marks.get('exact', True)))

    def _pictures(self, contract: Contract, notes: list[str]
                  ) -> dict[str, Iterable[NDArray[np.uint8]]]:
        there = {camera.name: camera for camera in self.described.cameras}
        found: dict[str, Iterable[NDArray[np.uint8]]] = {}
        for camera in contract.cameras:
            span = self.spans[camera.name]
            stamps, odd = span.find(self.length, self.described.fps)
            notes += [f'{there[camera.name].key}: {note}' for note in odd]
            found[camera.name] = SpanPictures(
                span.path, stamps, (there[camera.name].height, there[camera.name].width),
                (camera.height, camera.width))
        return found

    def _rows(self, *more: str) -> Rows:
        """Find the episode's rows in its file, by their own number where they have one."""
        table, present = _read_table(self.data, self.described, self.number, more)
        if 'episode_index' not in present:
            if self.first_row + self.length > table.num_rows:
                raise DatasetError(
                    f'{self.data}: has {table.num_rows} rows and no episode_index, '
                    f'meta/episodes wants {self.length} from row {self.first_row} on')
            table = table.slice(self.first_row, self.length)
        else:
            mine = pc.fill_null(pc.equal(table.column('episode_index'), self.number), False)
            places = np.flatnonzero(mine.to_numpy(zero_copy_only=False))
            if len(places) != self.length:
                raise DatasetError(f'{self.data}: has {len(places)} rows of episode '
                                   f'{self.number}, meta/episodes says {self.length}')
            if places[-1] - places[0] != self.length - 1:
                raise DatasetError(f'{self.data}: other rows lie between those of episode '
                                   f'{self.number}')
            table = table.slice(int(places[0]), self.length)
        return Rows(self.data, table, present, self.described)


def _read_table(path: Path, described: Described, number: int, more: tuple[str, ...]
                ) -> tuple[pa.Table, list[str]]:
    """Columns of those parts of a file that may hold an episode, and the names of all columns."""
    try:
        with pq.ParquetFile(path) as file:
            present = list(file.schema_arrow.names)
            groups = _groups(file, number) if 'episode_index' in present else None
        columns = tuple(needed(described, present, *more))
        status = path.stat()
        return _read_groups(path, status.st_size, status.st_mtime_ns, columns, groups), present
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f'{path}: cannot read this Parquet file: {error}') from error


def _groups(file: pq.ParquetFile, number: int) -> tuple[int, ...]:
    """Row groups that may hold an episode: their statistics tell the least and largest number."""
    meta = file.metadata
    names = [meta.schema.column(index).path for index in range(meta.num_columns)]
    column, found = names.index('episode_index'), []
    for group in range(meta.num_row_groups):
        known = meta.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or known.min <= number <= known.max:
            found.append(group)
    return tuple(found)


@lru_cache(maxsize=1)
def _read_groups(path: Path, size: int, mtime_ns: int, columns: tuple[str, ...],
                 groups: tuple[int, ...] | None) -> pa.Table:
    """Read once for all the episodes in them, which are asked for one after the other."""
    del size, mtime_ns
    with pq.ParquetFile(path) as file:
        if groups is None:
            return file.read(columns=list(columns))
        return file.read_row_groups(list(groups), columns=list(columns))


def _report(entry: object) -> AlignReport | None:
    """Read an alignment report back; None where there is none or it is of another shape."""
    if not isinstance(entry, Mapping):
        return None
    try:
        streams = tuple(StreamReport(**stream) for stream in entry['streams'])
        return AlignReport(**{**entry, 'streams': streams, 'limits': tuple(entry['limits']),
                              'trimmed_s': tuple(entry['trimmed_s'])})
    except (KeyError, TypeError):
        return None
