# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What ``meta/`` of a LeRobot v3.0 dataset says, and where it contradicts itself or the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
import json
import math
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow as pa
import pyarrow.parquet as pq

from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.sources.lerobot_common import Info
from ssl_vla_ros.dataset.sources.lerobot_video import VideoSpan
from ssl_vla_ros.errors import DatasetError

VERSIONS = ('v3.0',)
_EPISODES = 'meta/episodes'
_PLACE = ('data/chunk_index', 'data/file_index')
_SPAN = ('chunk_index', 'file_index', 'from_timestamp', 'to_timestamp')
#: By how many rows a declared span may differ from its episode, or from its neighbour.
_HALF_ROW = 0.5


@dataclass
class ListedEpisode:
    """
    One line of ``meta/episodes``.

    Attributes
    ----------
    number, length, tasks
        As they stand there.
    data
        The file of its rows.
    first_row
        Where in that file they should begin.
    spans
        Where its pictures are, by camera feature.
    fault
        Why it cannot be used, '' if it can.

    """

    number: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    first_row: int = 0
    spans: dict[str, VideoSpan] = field(default_factory=dict)
    fault: str = ''


@dataclass
class Meta:
    """
    An opened dataset.

    Attributes
    ----------
    episodes
        In the order of their numbers.
    cameras
        Features of videos that there are.
    tasks
        Sentences by task index.

    """

    info: Info
    episodes: list[ListedEpisode]
    cameras: list[str]
    tasks: Mapping[int, str]

    @classmethod
    def read(cls, root: Path) -> Meta:
        """
        Read ``meta/`` and hold it against the files.

        Raises
        ------
        DatasetError
            If nothing of the dataset can be used.

        """
        info = Info.read(root, VERSIONS)
        info.check_template('data_path', 'file_index', {'chunk_index', 'file_index'})
        keys = info.video_keys()
        if keys:
            info.check_template(
                'video_path', 'file_index', {'chunk_index', 'file_index', 'video_key'})
        lines = _lines(info, keys)
        episodes = [_episode(info, line) for line in lines]
        _find_first_rows(episodes)
        cameras = []
        for key in keys:
            if _find_spans(info, key, episodes, lines):
                cameras.append(key)
            else:
                info.note_no_video(key)
        tasks: Mapping[int, str] = {}
        if (root / layout.TASKS).is_file():
            tasks = sentences(root)
        else:
            info.notes.add(f'{layout.TASKS} is missing: tasks are taken from {_EPISODES}')
        found = cls(info, episodes, cameras, tasks)
        found._check_files()
        info.check_totals({
            'total_episodes': len(episodes), 'total_tasks': len(tasks),
            'total_frames': sum(episode.length for episode in episodes)})
        return found

    def _check_files(self) -> None:
        """Note files that no episode refers to."""
        root = self.info.root
        used = {episode.data for episode in self.episodes}
        used |= {span.path for episode in self.episodes for span in episode.spans.values()}
        for folder, kind in (('data', '*.parquet'), ('videos', '*.mp4')):
            for path in sorted((root / folder).rglob(kind)):
                if path not in used and not any(
                        part in self.info.features and part not in self.cameras
                        for part in path.parts):
                    self.info.notes.add(
                        f'{path.relative_to(root)} belongs to no episode: left out')


def _lines(info: Info, keys: Iterable[str]) -> list[dict[str, Any]]:
    """Read the lines of ``meta/episodes``, without the statistics, in the order of numbers."""
    wanted = ['episode_index', 'length', 'tasks', 'dataset_from_index', *_PLACE]
    wanted += [f'videos/{key}/{name}' for key in keys for name in _SPAN]
    found: dict[int, dict[str, Any]] = {}
    for path in sorted((info.root / _EPISODES).rglob('*.parquet')):
        try:
            with pq.ParquetFile(path) as file:
                names = [name for name in wanted if name in file.schema_arrow.names]
                lines = file.read(columns=names).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f'{path}: cannot read this Parquet file: {error}') from error
        missing = [name for name in ('episode_index', 'length', *_PLACE) if name not in names]
        if missing:
            raise DatasetError(f'{path}: there is no column {", ".join(missing)}')
        for place, line in enumerate(lines):
            number, length = line['episode_index'], line['length']
            if not _is_index(number) or not _is_index(length):
                raise DatasetError(
                    f'{path}: row {place}: episode_index is {number!r} and length {length!r}, '
                    'must be whole numbers from 0 on')
            if number in found:
                raise DatasetError(f'{path}: lists episode {number} twice')
            if number != len(found):
                info.notes.add(f'{_EPISODES}: episode_index is not the place in the list')
            found[number] = line
    if not found:
        raise DatasetError(f'{info.root}: no episode is listed in {_EPISODES}')
    return [found[number] for number in sorted(found)]


def _episode(info: Info, line: Mapping[str, Any]) -> ListedEpisode:
    tasks = line.get('tasks')
    if not isinstance(tasks, list):
        info.notes.add(f'{_EPISODES}: tasks is no list: not used')
        tasks = []
    number, length = line['episode_index'], line['length']
    place = [line[name] for name in _PLACE]
    if not all(map(_is_index, place)):
        return ListedEpisode(number, length, (), info.path, fault=(
            f'{_EPISODES}: data/chunk_index and data/file_index are {place}, must be whole '
            'numbers from 0 on'))
    found = ListedEpisode(
        number, length, tuple(map(str, tasks)), info.root / str(info.data['data_path']).format(
            chunk_index=place[0], file_index=place[1]))
    start = line.get('dataset_from_index')
    found.first_row = start if _is_index(start) else -1
    if not length:
        found.fault = f'{_EPISODES}: the episode has no rows'
    return found


def _find_first_rows(episodes: list[ListedEpisode]) -> None:
    """Turn places in the dataset into places in the file of each episode."""
    by_file: dict[Path, list[ListedEpisode]] = {}
    for episode in episodes:
        by_file.setdefault(episode.data, []).append(episode)
    for found in by_file.values():
        first, told = 0, all(episode.first_row >= 0 for episode in found)
        start = min(episode.first_row for episode in found)
        for episode in found:
            episode.first_row = episode.first_row - start if told else first
            first += episode.length


@dataclass(frozen=True)
class _Part:
    """What one episode has of a video file: seconds, the end given or reckoned."""

    start_s: float
    end_s: float
    episode: ListedEpisode


def _find_spans(info: Info, key: str, episodes: list[ListedEpisode],
                lines: list[dict[str, Any]]) -> bool:
    """Say for each episode where its pictures of a camera are; whether there are any at all."""
    names = [f'videos/{key}/{name}' for name in _SPAN]
    by_file: dict[Path, list[_Part]] = {}
    faults: list[tuple[ListedEpisode, str]] = []
    for episode, line in zip(episodes, lines, strict=True):
        chunk, number, start, end = (line.get(name) for name in names)
        if not _is_index(chunk) or not _is_index(number):
            faults.append((episode, f'{names[0]} and {names[1]} are {chunk!r} and {number!r}, '
                                    'must be whole numbers from 0 on'))
            continue
        end_s = start if end is None else end
        if not _is_time(start) or not _is_time(end_s):
            faults.append((episode, f'{names[2]} and {names[3]} are {start!r} and {end!r}, must '
                                    'be seconds from 0 on'))
            continue
        path = info.root / str(info.data.get('video_path')).format(
            chunk_index=chunk, file_index=number, video_key=key)
        end_s = start + episode.length / info.fps if end is None else end_s
        pictures = (end_s - start) * info.fps
        if abs(pictures - episode.length) > _HALF_ROW:
            faults.append((episode, f'{key} from {start:.3f} to {end_s:.3f} s are {pictures:.1f} '
                                    f'pictures at {info.fps} Hz, the episode has '
                                    f'{episode.length} rows'))
        by_file.setdefault(path, []).append(_Part(start, end_s, episode))
    if not any(path.is_file() for path in by_file):
        return False
    for path, parts in by_file.items():
        faults += _share_out(info, key, path, parts)
    for episode, fault in faults:
        episode.fault = episode.fault or f'{_EPISODES}: {fault}'
    return True


def _share_out(info: Info, key: str, path: Path, parts: list[_Part]
               ) -> list[tuple[ListedEpisode, str]]:
    """Hold the spans of one file against each other: no picture may be two episodes'."""
    faults = []
    parts.sort(key=lambda part: part.start_s)
    pictures = [round((part.end_s - part.start_s) * info.fps) for part in parts]
    starts = [0.0, *(part.end_s for part in parts[:-1])]
    gapless = all(abs(part.start_s - start) * info.fps <= _HALF_ROW
                  for part, start in zip(parts, starts, strict=True))
    needed = sum(pictures) if gapless else round(max(part.end_s for part in parts) * info.fps)
    every, first = tuple(part.start_s for part in parts), 0
    for place, part in enumerate(parts):
        part.episode.spans[key] = VideoSpan(
            path, every, place, first if gapless else -1, needed)
        first += pictures[place]
    last = parts[0]
    for part in parts[1:]:
        gap = (part.start_s - last.end_s) * info.fps
        if gap < -_HALF_ROW:
            faults += [(one.episode, f'{key}: up to {-gap:.0f} pictures of {path.name} are both '
                                     f"this episode's and episode {two.episode.number}'s")
                       for one, two in ((part, last), (last, part))]
        elif gap > _HALF_ROW:
            info.notes.add(f'{key}: {gap:.0f} pictures of {path.name} between the episodes '
                           f'{last.episode.number} and {part.episode.number} belong to none')
        last = max(last, part, key=lambda found: found.end_s)
    return faults


def _is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def sentences(root: Path) -> dict[int, str]:
    """
    Sentences by task index; read once a process, and again when the file has changed.

    Raises
    ------
    DatasetError
        If the file cannot be read or has no sentences.

    """
    path = root / layout.TASKS
    if not path.is_file():
        return {}
    status = path.stat()
    return _read_sentences(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _read_sentences(path: Path, size: int, mtime_ns: int) -> dict[int, str]:
    del size, mtime_ns
    table = layout.read_table(path)
    # pandas writes the sentences as the index, under a name that its metadata tells.
    names = [name for name in table.column_names
             if pa.types.is_string(table.schema.field(name).type)
             or pa.types.is_large_string(table.schema.field(name).type)]
    try:
        frame = json.loads((table.schema.metadata or {}).get(b'pandas', b'{}'))
        index = [name for name in frame.get('index_columns', ()) if name in names]
    except (ValueError, AttributeError, TypeError):
        index = []
    chosen = [*index, *[name for name in ('task', *names) if name in names]]
    if not chosen or 'task_index' not in table.column_names:
        raise DatasetError(f'{path}: has the columns {table.column_names}, needs task_index and '
                           'the sentences')
    return {number: text for number, text in zip(
        table.column('task_index').to_pylist(), table.column(chosen[0]).to_pylist(),
        strict=True) if _is_index(number) and isinstance(text, str)}
