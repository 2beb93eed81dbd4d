# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a file or folder is, by looking at what is in it, and who reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
import os
from pathlib import Path

from ssl_vla_ros.dataset.files import read_json
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source, VIDEO_SUFFIXES
from ssl_vla_ros.errors import DatasetError

_LEROBOT, _RLDS, _HDF5, _BAG = 'LeRobot dataset', 'RLDS', 'HDF5', 'ROS 2 bag'
_NPZ, _VIDEO, _SESSION = 'npz', 'video', 'session'
_KNOWN = {
    'LeRobot v2.0, v2.1, v3.0': 'meta/info.json', 'RLDS': '*.tfrecord*',
    'robomimic or ALOHA HDF5': '*.hdf5, *.h5',
    'ROS 2 bag': '*.mcap, *.db3, both also with .zstd',
    'npz': '*.npz', 'videos': '*.mp4, *.mov, *.webm, *.avi, *.mkv, *.gif'}
_LEROBOT_PARTS = ('meta', 'data', 'videos')
_BAG_ENDINGS = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
#: How rosbag2's own metadata.yaml begins.
_BAG_KEY = 'rosbag2_bagfile_information'


@dataclass
class _Found:
    """What lies in a folder: places by kind, and endings of what is of no kind."""

    places: dict[str, list[Path]] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, place: Path) -> None:
        self.places.setdefault(kind, []).append(place)


def open_source(path: str | Path, options: ImportOptions) -> Source:
    """
    Open a recording made by others.

    Parameters
    ----------
    path
        A file, or a folder that holds one dataset, bags, or files of one format.
    options
        What the user says beside it.

    Raises
    ------
    DatasetError
        If there is nothing known, or of several formats, or a session of our own recorder; else
        as the format's own reader says.

    """
    place = Path(path)
    if not place.exists():
        raise DatasetError(f'{place}: there is no such file or folder')
    found = _look(place)
    if _SESSION in found.places:
        episode = found.places[_SESSION][0]
        raise DatasetError(
            f'{episode}: was recorded by ssl_vla_ros itself; make a dataset of its session with: '
            f'ssl_vla dataset build {episode.parent} OUT')
    if not found.places:
        known = '; '.join(f'{name} ({files})' for name, files in _KNOWN.items())
        there = ', '.join(f'{count} {ending}' for ending, count in sorted(found.unknown.items()))
        raise DatasetError(f'{place}: nothing here is known. Found: {there or "nothing"}. '
                           f'Known: {known}')
    if len(found.places) > 1 or len(found.places.get(_LEROBOT, ())) > 1:
        there = '; '.join(f'{len(places)} {kind} ({places[0]}{" …" if len(places) > 1 else ""})'
                          for kind, places in found.places.items())
        raise DatasetError(f'{place}: holds several things: {there}; point at one of them')
    ((kind, places),) = found.places.items()
    if kind == _LEROBOT:
        return _lerobot(places[0])(places[0], options)
    return _READERS[kind](place, options)


def _look(place: Path) -> _Found:
    found = _Found()
    # A file of a LeRobot dataset says nothing without its meta/.
    for folder in place.absolute().parents:
        if _is_lerobot(folder) and any(
                place.absolute().is_relative_to(folder / part) for part in _LEROBOT_PARTS):
            raise DatasetError(f'{place}: is a part of the LeRobot dataset {folder}; give that '
                               'folder')
    if place.is_file():
        if _is_session(place.parent):
            found.add(_SESSION, place.parent)
        _take_file(found, place)
        return found
    for parent, folders, names in os.walk(place):
        here = Path(parent)
        if _is_lerobot(here):
            found.add(_LEROBOT, here)
            folders.clear()
        elif _is_session(here):
            found.add(_SESSION, here)
            folders.clear()
        else:
            folders[:] = sorted(name for name in folders if not name.startswith('.'))
            for name in sorted(names):
                if not name.startswith('.'):
                    _take_file(found, here / name)
    if _BAG in found.places:
        # What lies beside a bag is about it, or not: metadata.yaml is no bag of its own.
        bags = [path for path in found.places[_BAG] if path.suffix != '.yaml']
        found.places[_BAG] = bags or found.places[_BAG]
    return found


def _is_lerobot(folder: Path) -> bool:
    return (folder / 'meta' / 'info.json').is_file()


def _is_session(folder: Path) -> bool:
    return folder.name.startswith('episode_') and (folder / 'episode.json').is_file()


def _take_file(found: _Found, path: Path) -> None:
    name, suffix = path.name.lower(), path.suffix.lower()
    if '.tfrecord' in name:
        found.add(_RLDS, path)
    elif suffix in ('.hdf5', '.h5'):
        found.add(_HDF5, path)
    elif name.endswith(_BAG_ENDINGS) or (name == 'metadata.yaml' and _is_bag_metadata(path)):
        found.add(_BAG, path)
    elif suffix == '.npz':
        found.add(_NPZ, path)
    elif suffix in VIDEO_SUFFIXES:
        found.add(_VIDEO, path)
    else:
        ending = suffix or 'without an ending'
        found.unknown[ending] = found.unknown.get(ending, 0) + 1


def _is_bag_metadata(path: Path) -> bool:
    try:
        with path.open('rb') as file:
            return _BAG_KEY.encode() in file.read(4096)
    except OSError:
        return False


_Reader = Callable[[Path, ImportOptions], Source]


def _lerobot(root: Path) -> _Reader:
    from ssl_vla_ros.dataset.sources import lerobot_v2, lerobot_v3, lerobot_v3_meta
    version = read_json(root / 'meta' / 'info.json').get('codebase_version')
    if version in lerobot_v2.VERSIONS:
        return lerobot_v2.open_lerobot_v2
    if version in lerobot_v3_meta.VERSIONS:
        return lerobot_v3.open_lerobot_v3
    known = ', '.join((*lerobot_v2.VERSIONS, *lerobot_v3_meta.VERSIONS))
    raise DatasetError(f'{root / "meta" / "info.json"}: codebase_version is {version!r}, must be '
                       f'one of {known}')


def _rlds(path: Path, options: ImportOptions) -> Source:
    from ssl_vla_ros.dataset.sources.rlds import open_rlds
    return open_rlds(path, options)


def _hdf5(path: Path, options: ImportOptions) -> Source:
    from ssl_vla_ros.dataset.sources.hdf5 import open_hdf5
    return open_hdf5(path, options)


def _bag(path: Path, options: ImportOptions) -> Source:
    from ssl_vla_ros.dataset.sources.rosbag2 import open_rosbag2
    return open_rosbag2(path, options)


def _npz(path: Path, options: ImportOptions) -> Source:
    from ssl_vla_ros.dataset.sources.npz import open_npz
    return open_npz(path, options)


def _videos(path: Path, options: ImportOptions) -> Source:
    from ssl_vla_ros.dataset.sources.videos import open_videos
    return open_videos(path, options)


_READERS: dict[str, _Reader] = {
    _RLDS: _rlds, _HDF5: _hdf5, _BAG: _bag, _NPZ: _npz, _VIDEO: _videos}
