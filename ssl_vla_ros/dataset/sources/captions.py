# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What is done in a video, in words: from files beside it.

``NAME.txt`` (the sentence), ``NAME.json`` (``{"task": ...}``), or ``captions.csv`` and
``captions.jsonl`` with ``file`` and ``task``, files relative to where the list lies. A name of a
file or folder is no sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import csv
import io
import json
from pathlib import Path

from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.json_lines import json_lines
from ssl_vla_ros.errors import DatasetError

CSV, JSONL = 'captions.csv', 'captions.jsonl'


class Captions:
    """
    The sentences of some videos.

    Parameters
    ----------
    videos
        The files; lists of captions are looked for in their folders and up to ``root``.
    root
        The folder that is imported.
    problems
        Told what is odd.

    Raises
    ------
    DatasetError
        If a list of captions cannot be read: it names line and key.

    """

    def __init__(self, videos: Iterable[Path], root: Path, problems: Notes) -> None:
        self._problems = problems
        self._listed: dict[Path, list[tuple[str, str]]] = {path: [] for path in videos}
        folders = {folder for path in self._listed for folder in path.parents
                   if folder == root or folder.is_relative_to(root)}
        for folder in sorted(folders):
            for read, name in ((_csv_lines, CSV), (_jsonl_lines, JSONL)):
                if (folder / name).is_file():
                    self._take(folder / name, read(folder / name))

    def _take(self, path: Path, lines: Iterator[tuple[int, str, str]]) -> None:
        for number, file, task in lines:
            video = path.parent / file
            if video in self._listed:
                self._listed[video].append((_sentence(task), f'{path.name} line {number}'))
            else:
                self._problems.add(f'{path.name}: line {number} is about {file!r}, which is no '
                                   'video here')

    def of(self, video: Path, otherwise: str) -> str:
        """
        Sentence of a video.

        Parameters
        ----------
        video
            One of the files.
        otherwise
            What the user says of videos without a sentence.

        Raises
        ------
        DatasetError
            If there is none, or two that differ, or one that cannot be read.

        """
        said = [*_beside(video, self._problems), *self._listed[video]]
        for task, where in said:
            if not task:
                raise DatasetError(f'{video}: the caption in {where} is empty')
        tasks = dict(reversed(said))
        if len(tasks) > 1:
            raise DatasetError(f'{video}: has two captions: ' + ', '.join(
                f'{task!r} ({where})' for task, where in reversed(tasks.items())))
        if not tasks and not otherwise:
            raise DatasetError(
                f'{video}: nothing says what is done in it; write it to {video.stem}.txt beside '
                f'it, or to {CSV} (columns file and task), or give --task TEXT for every video '
                'without a caption')
        return next(iter(tasks), otherwise)


def _sentence(text: str) -> str:
    return ' '.join(text.split())


def _beside(video: Path, notes: Notes) -> Iterator[tuple[str, str]]:
    path = video.with_suffix('.txt')
    if path.is_file():
        yield _sentence(_text(path)), path.name
    path = video.with_suffix('.json')
    if path.is_file():
        try:
            data = json.loads(_text(path))
        except json.JSONDecodeError as error:
            raise DatasetError(f'{path}: not valid JSON: {error}') from error
        if isinstance(data, dict) and isinstance(data.get('task'), str):
            yield _sentence(data['task']), path.name
        else:
            notes.add(f'{path.name} has no text under "task": not taken for a caption')


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise DatasetError(f'{path}: is not UTF-8 text: {error.reason} at byte {error.start}'
                           ) from error
    except OSError as error:
        raise DatasetError(f'{path}: cannot read it: {error.strerror}') from error


def _csv_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=''))
    lacking = [name for name in ('file', 'task') if name not in (reader.fieldnames or ())]
    if lacking:
        raise DatasetError(f'{path}: the first line is {reader.fieldnames}, lacks the column '
                           f'{", ".join(lacking)}')
    try:
        for line in reader:
            if not line['file'] or line['task'] is None:
                raise DatasetError(f'{path}: line {reader.line_num} lacks file or task')
            yield reader.line_num, line['file'], line['task']
    except csv.Error as error:
        raise DatasetError(f'{path}: line {reader.line_num}: {error}') from error


def _jsonl_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, entry in enumerate(json_lines(path, (), 'file', 'task'), 1):
        if not isinstance(entry['file'], str) or not isinstance(entry['task'], str):
            raise DatasetError(f'{path}: entry {number}: file and task must be texts')
        yield number, entry['file'], entry['task']
