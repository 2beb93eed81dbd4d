# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Bringing the episodes of several sessions together in one, under new numbers.

The bags are copied as they are; only their file names, metadata.yaml and episode.json carry the
new number, and the edit says where each came from. The sources are only read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import filecmp
import json
from pathlib import Path
import shutil
from typing import Any

from ssl_vla_ros.contract import require_compatible
from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.bag import write_durably, write_json
from ssl_vla_ros.episodes.edit import bag_of, check_room, Edit, note, size_of, Told
from ssl_vla_ros.episodes.edit_select import numbered, ranges
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.episodes.transaction import Transaction
from ssl_vla_ros.errors import EpisodeError
import yaml

#: In an episode's ``extra``: names of the parts before and after it, of one long recording.
_NEIGHBOURS = ('continues', 'goes_on_in')


def merge(sources: Sequence[Path], out: Path) -> Edit:
    """
    Copy every finished episode of some sessions into another one, new or not.

    Parameters
    ----------
    sources
        The sessions, in the order in which their episodes are numbered.
    out
        The session to copy to; made if it is not there.

    Raises
    ------
    EpisodeError
        If a source is missing, empty, named twice, the same as ``out`` or not finished; if an
        episode cannot be read or is in ``out`` already.
    ContractError
        If the episodes are not of one robot: cameras, state, action or rate differ.

    """
    resolved = [path.resolve() for path in (*sources, out)]
    for place, path in enumerate(resolved):
        if path in resolved[:place]:
            raise EpisodeError(f'{path}: is given twice; name each session once, and another OUT')
    found = [(source, path) for source in sources for path in _finished(source)]
    there = list(numbered(out).values()) if out.exists() else []
    _check(found, there)
    first = sessions.next_number(out)
    lines = tuple(f'{source / path.name} -> {out / sessions.episode_name(first + place)}'
                  for place, (source, path) in enumerate(found))

    def apply(told: Told) -> None:
        made = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        try:
            with Transaction.begin(out, f'merge {", ".join(map(str, sources))}') as change:
                check_room(out, sum(size_of(path) for _, path in found))
                _check(found, list(numbered(out).values()))
                with _claimed(out, len(found)) as numbers:
                    _copy_all(found, numbers, change, told)
                    change.commit()
        except BaseException:
            if made:
                # Only if nothing is in it: whatever was prepared is gone by now.
                with contextlib.suppress(OSError):
                    out.rmdir()
            raise

    return Edit(f'merge {len(lines)} episodes of {len(sources)} sessions into {out}', lines, out,
                apply)


def _finished(source: Path) -> list[Path]:
    there = numbered(source)
    unfinished = [number for number, _ in sessions.unfinished(source)]
    if unfinished:
        raise EpisodeError(
            f'{source}: episode {ranges(unfinished)} is not finished; stop the recorder that '
            f'writes it, or run `ssl_vla episodes recover {source} --yes` if none does')
    if not there:
        raise EpisodeError(f'{source}: there is no finished episode')
    return list(there.values())


def _check(found: Sequence[tuple[Path, Path]], there: Sequence[Path]) -> None:
    """Hold every episode against the first one, and against those that are there already."""
    first: Episode | None = None
    known: dict[Any, list[tuple[Path, Path]]] = {}
    for path in (*there, *(path for _, path in found)):
        episode = Episode.open(path)
        bag = bag_of(path, episode.info)
        if first is None:
            first = episode
        require_compatible(episode.contract, first.contract, str(path))
        alike = known.setdefault(_identity(episode.info), [])
        for other, other_bag in alike:
            # Simulated time begins anew in every run: the same stamps alone prove nothing.
            if filecmp.cmp(bag, other_bag, shallow=False):
                raise EpisodeError(
                    f'{path}: is the same recording as {other}; leave one of them out')
        alike.append((path, bag))


def _identity(info: Mapping[str, Any]) -> tuple[Any, ...]:
    """Tell most recordings from each other without reading them."""
    return (info['first_stamp_ns'], info['last_stamp_ns'], tuple(sorted(
        (topic, account['written']) for topic, account in info['counts'].items())))


@contextlib.contextmanager
def _claimed(session: Path, count: int) -> Iterator[list[int]]:
    """Hold as many free numbers against every recorder, as a recorder holds its own."""
    locks: list[sessions.PartLock] = []
    numbers: list[int] = []
    try:
        number = sessions.next_number(session)
        while len(numbers) < count:
            lock = sessions.PartLock.take(session, number)
            if lock is not None:
                locks.append(lock)
                if not any((session / name).exists() for name in (
                        sessions.part_name(number), sessions.episode_name(number))):
                    numbers.append(number)
            number += 1
        yield numbers
    finally:
        for lock in locks:
            lock.release()


def _copy_all(found: Sequence[tuple[Path, Path]], numbers: Sequence[int], change: Transaction,
              told: Told) -> None:
    names = {path: sessions.episode_name(number)
             for (_, path), number in zip(found, numbers, strict=True)}
    for done, ((source, path), number) in enumerate(zip(found, numbers, strict=True), 1):
        staged = change.staging / sessions.episode_name(number)
        _copy(source, path, staged, number, names)
        change.move(staged, change.session / staged.name)
        told(done, len(found), f'merge: {path.name}')


def _copy(source: Path, path: Path, staged: Path, number: int, names: Mapping[Path, str]) -> None:
    episode = Episode.open(path)
    info = json.loads(json.dumps(episode.info))
    bag = bag_of(path, info)
    staged.mkdir()
    for item in path.iterdir():
        if item == bag:
            shutil.copyfile(item, staged / sessions.mcap_name(number))
        elif item.is_dir():
            shutil.copytree(item, staged / item.name)
        elif item.name not in ('metadata.yaml', sessions.INFO_FILE):
            shutil.copyfile(item, staged / item.name)
    _write_metadata(path / 'metadata.yaml', staged, sessions.mcap_name(number))
    note(info, 'merge', source=str(source.resolve()), episode=info['episode'])
    info['episode'] = number
    extra = info.get('extra', {})
    for key in _NEIGHBOURS:
        if key in extra:
            extra[key] = names.get(path.with_name(str(extra[key])), '')
    write_json(staged / sessions.INFO_FILE, info)


def _write_metadata(source: Path, staged: Path, name: str) -> None:
    """Name the bag's new file in rosbag2's metadata."""
    try:
        data = yaml.safe_load(source.read_text(encoding='utf-8'))
        bag = data['rosbag2_bagfile_information']
        bag['relative_file_paths'] = [name]
        for file in bag.get('files', []):
            file['path'] = name
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise EpisodeError(f'{source}: cannot be read: {error!r}') from error
    write_durably(staged / 'metadata.yaml', yaml.safe_dump(data, sort_keys=False))
