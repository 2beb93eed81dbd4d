# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Which bags there are: a file, a folder that is a bag, or a folder of many.

``metadata.yaml`` says which files make a bag and in which order. Without it, files that are
numbered as rosbag2 does it and follow each other without a pause are one split bag, and any other
file is a bag of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import re
from typing import Any

from ssl_vla_ros.dataset.sources.rosbag2_files import look_into, Overview, storage_of
from ssl_vla_ros.yaml_text import load_yaml, yaml_problem
import yaml

METADATA = 'metadata.yaml'
_KEY = 'rosbag2_bagfile_information'
#: The parts of a split bag begin within so many seconds of the end of the one before.
_PAUSE_S = 2.0
_NUMBERED = re.compile(r'(?P<base>.+)_(?P<number>\d+)(?P<ending>\.[A-Za-z][A-Za-z0-9.]*)')


@dataclass(frozen=True)
class BagFiles:
    """
    The files of one bag, small enough to be sent to another process.

    Attributes
    ----------
    name
        For people: its folder or file, from the user's folder on.
    files
        In the order in which they were written.
    counts
        What ``metadata.yaml`` says of each topic's number of messages; empty without it.
    formats
        What it says of each topic's serialization.
    problem
        Why the bag cannot be read; '' if nothing speaks against it.
    remarks
        What its metadata says that is not so, and what had to be guessed.

    """

    name: str
    files: tuple[Path, ...]
    counts: Mapping[str, int]
    formats: Mapping[str, str]
    problem: str = ''
    remarks: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        """Its folder, or its only file."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent


def find_bags(path: Path) -> list[tuple[BagFiles, list[Overview]]]:
    """
    List the bags at a path with an overview of each of their files.

    Hidden folders are not looked into. A list without entries: there is none.
    """
    if path.is_file() and path.name != METADATA:
        return [_lone(path, path.name)]
    root = path if path.is_dir() else path.parent
    found = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted((name for name in folders if not name.startswith('.')), key=_natural)
        folder = Path(parent)
        name = root.name if folder == root else folder.relative_to(root).as_posix()
        files = [folder / item for item in sorted(names, key=_natural)
                 if storage_of(Path(item)) and not item.startswith('.')]
        data, note = _read_metadata(folder / METADATA) if METADATA in names else (None, '')
        if data is not None:
            found.append(_with_metadata(folder, name, files, data))
        elif files:
            found += _without_metadata(root, files, note)
        if path != root:
            break
    return found


def _read_metadata(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Give rosbag2's information, or None and what is wrong with the file."""
    problem = f'it has no {_KEY}'
    try:
        data = load_yaml(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        data, problem = None, str(error)
    except yaml.YAMLError as error:
        data, problem = None, yaml_problem(error)
    found = data.get(_KEY) if isinstance(data, dict) else None
    if isinstance(found, dict):
        listed = found.get('relative_file_paths')
        if isinstance(listed, list) and all(isinstance(item, str) for item in listed):
            return found, ''
        problem = f'relative_file_paths is {listed!r}'
    return None, f'{path} is of no use ({problem}); the files were read without it'


def _with_metadata(folder: Path, name: str, there: Sequence[Path], data: Mapping[str, Any]
                   ) -> tuple[BagFiles, list[Overview]]:
    listed = data['relative_file_paths']
    # Up to version 3 the paths begin with the bag's own folder.
    files = [folder / item if (folder / item).is_file() else folder / Path(item).name
             for item in listed]
    missing = [file.name for file in files if not file.is_file()]
    problem = '' if files else f'{folder}: {METADATA} lists no file'
    if missing:
        problem = (f'{folder}: {METADATA} lists {", ".join(missing)}, which '
                   f'{"is" if len(missing) == 1 else "are"} missing')
    kind = str(data.get('compression_format') or 'zstd')
    if kind != 'zstd':
        problem = problem or (f'{folder}: compression_format is {kind!r}, only zstd can be read; '
                              'run ros2 bag convert first')
    extra = [file.name for file in there if file not in files]
    notes: tuple[str, ...] = (
        f'{folder}: {METADATA} does not list {", ".join(extra)}; not read',
    ) if extra else ()
    counts, formats = {}, {}
    for item in data.get('topics_with_message_count') or ():
        try:
            about = item['topic_metadata']
            counts[str(about['name'])] = int(item['message_count'])
            formats[str(about['name'])] = str(about.get('serialization_format') or 'cdr')
        except (KeyError, TypeError, ValueError, AttributeError):
            notes += (f'{folder / METADATA}: topics_with_message_count has the entry {item!r}',)
    views = [] if problem else [look_into(file) for file in files]
    return BagFiles(name, tuple(files), counts, formats, problem, notes), views


def _without_metadata(root: Path, files: Sequence[Path], note: str
                      ) -> list[tuple[BagFiles, list[Overview]]]:
    groups: dict[tuple[Path, str, str], list[tuple[int, Path]]] = {}
    found: list[tuple[BagFiles, list[Overview]]] = []
    for file in files:
        match = _NUMBERED.fullmatch(file.name)
        if match is None:
            found.append(_lone(file, file.relative_to(root).as_posix(), note))
        else:
            key = (file.parent, match['base'], match['ending'])
            groups.setdefault(key, []).append((int(match['number']), file))
    for numbered in groups.values():
        parts = [file for _, file in sorted(numbered)]
        views = [look_into(file) for file in parts]
        start = 0
        for stop in range(1, len(parts) + 1):
            if stop < len(parts) and _follows(views[stop - 1], views[stop]):
                continue
            name = parts[start].relative_to(root).as_posix()
            notes: tuple[str, ...] = (note,) if note else ()
            if stop - start > 1:
                notes += (f'{parts[start]} and the {stop - start - 1} files after it follow each '
                          'other without a pause: read as one bag',)
            found.append((BagFiles(name, tuple(parts[start:stop]), {}, {}, remarks=notes),
                          views[start:stop]))
            start = stop
    return sorted(found, key=lambda item: _natural(item[0].name))


def _natural(name: str) -> list[tuple[str, int]]:
    """Order names as people do: 9 before 10."""
    return [(text, int(number or 0)) for text, number in re.findall(r'(\D*)(\d*)', name)]


def _follows(one: Overview, other: Overview) -> bool:
    if one.span_ns is None or other.span_ns is None:
        return False
    # Messages that come together may be written out of order: hence either way.
    return abs(other.span_ns[0] - one.span_ns[1]) <= _PAUSE_S * 1e9


def _lone(path: Path, name: str, note: str = '') -> tuple[BagFiles, list[Overview]]:
    return BagFiles(name, (path,), {}, {}, remarks=(note,) if note else ()), [look_into(path)]
