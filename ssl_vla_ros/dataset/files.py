# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Directories that appear whole or not at all: written aside, synced, renamed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
import errno
import fcntl
import json
import os
from pathlib import Path
import shutil
from typing import Any

from ssl_vla_ros.errors import DatasetError

#: Called with how much is done, how much there is, and what is being worked on.
Progress = Callable[[int, int, str], None]


#: What a file system says that has no hard links, or not between these two places.
_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


def tell(progress: Progress | None, done: int, total: int, what: str) -> None:
    """Report progress to whoever wants it."""
    if progress is not None:
        progress(done, total, what)


def part_of(target: Path) -> Path:
    """Where ``target`` is written until it is complete."""
    return target.with_name(target.name + '.part')


@contextmanager
def building(target: Path, known: Iterable[str], wait: Callable[[], None] | None = None, *,
             keep: Iterable[str] = ()) -> Iterator[Path]:
    """
    Own ``TARGET.part`` while it is written; nothing but what is to be kept is in it at the start.

    What an interrupted build left there is removed, if it consists of ``known`` names alone. The
    lock lives on the directory itself, so it ends with the process that holds it.

    Parameters
    ----------
    target
        The directory to build.
    known
        Names that a build of this kind leaves in the directory.
    wait
        Called once before waiting for another process that builds the same directory; without
        it, that is an error.
    keep
        Names whose content an interrupted build left to be gone on with.

    Raises
    ------
    DatasetError
        If another process builds it, or the directory holds something unknown.

    """
    part = part_of(target)
    while True:
        try:
            part.mkdir(parents=True, exist_ok=True)
            handle = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise DatasetError(f'{part}: cannot write here: {error.strerror}') from error
        try:
            _lock(handle, part, wait)
            # The one before may have renamed the directory while we waited for its lock.
            if part.exists() and os.stat(part).st_ino == os.fstat(handle).st_ino:
                _clear(part, known, keep)
                with _explained(part):
                    yield part
                return
        finally:
            os.close(handle)


def _lock(handle: int, part: Path, wait: Callable[[], None] | None) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if wait is None:
            raise DatasetError(
                f'{part}: another process is building this; wait for it, or choose another '
                'output directory') from None
        wait()
        fcntl.flock(handle, fcntl.LOCK_EX)


def _clear(part: Path, known: Iterable[str], keep: Iterable[str]) -> None:
    names, kept = set(known), set(keep)
    entries = [entry for entry in part.iterdir() if entry.name not in kept]
    for entry in entries:
        if entry.name not in names:
            raise DatasetError(
                f'{part}: holds {entry.name!r}, which no interrupted build leaves; '
                'remove or move this directory yourself')
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextmanager
def _explained(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(
                f'{part}: the disk is full; free some space and run again '
                '(nothing finished was lost)') from error
        raise


def finish(part: Path, target: Path, *, replace: bool = False) -> None:
    """
    Sync everything under ``part`` and rename it to ``target``.

    With ``replace``, an existing ``target`` is moved aside first and removed afterwards; should
    the process end in between, ``restore_replaced`` brings it back.
    """
    sync_tree(part)
    old: Path | None = None
    if replace and target.exists():
        old = replaced_name(target)
        if old.exists():
            shutil.rmtree(old)
        os.rename(target, old)
    try:
        os.rename(part, target)
    except OSError as error:
        raise DatasetError(
            f'{target}: cannot put the finished directory here: {error.strerror}') from error
    _sync(target.parent)
    if old is not None:
        shutil.rmtree(old)


def replaced_name(target: Path) -> Path:
    """Where the old ``target`` lies while the new one takes its place."""
    return target.with_name(f'.{target.name}.replaced')


def restore_replaced(target: Path) -> None:
    """Undo a replacement that was cut off between its two renames."""
    old = replaced_name(target)
    if old.is_dir() and not target.exists():
        os.rename(old, target)
        _sync(target.parent)


def sync_tree(root: Path) -> None:
    """Bring every file and folder under ``root`` to the disk."""
    for folder, _, names in os.walk(root):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))


def link_or_copy(source: Path, target: Path) -> None:
    """
    Give a finished file a second name; a copy where the file system knows no links.

    Finished files of a dataset are never written again, so two names of one file are as good as
    two files.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, data: Any) -> None:
    """Write JSON, indented, in UTF-8; NaN and infinity are refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(text + '\n', encoding='utf-8')


def read_json(path: Path) -> dict[str, Any]:
    """
    Read a JSON object.

    Raises
    ------
    DatasetError
        If the file is missing, unreadable, or holds something else.

    """
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise DatasetError(f'{path}: cannot read it: {error.strerror}') from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f'{path}: not valid JSON: {error}') from error
    if not isinstance(data, dict):
        raise DatasetError(f'{path}: must hold a JSON object, holds {type(data).__name__}')
    return data
