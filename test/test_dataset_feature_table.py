# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of features: computed once, gone on with, never mistaken for another's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from ssl_vla_ros.dataset import feature_table
from ssl_vla_ros.dataset.feature_table import FeatureKey, make_table, open_table
from ssl_vla_ros.errors import DatasetError

KEY = FeatureKey('dataset', 'encoder', 96, 64, (10, 2, 3))


def features(start: int, stop: int) -> np.ndarray:
    """Encode rows as these tests do: the company a row is in is part of the result."""
    rows = np.arange(start, stop, dtype=np.float32)
    return np.broadcast_to(rows[:, None, None] + 100 * start, (stop - start, 2, 3)) + 0.5


def whole(block: int = 4) -> np.ndarray:
    return np.concatenate([features(start, min(10, start + block))
                           for start in range(0, 10, block)])


def never(start: int, stop: int) -> np.ndarray:
    raise AssertionError(f'rows {start} to {stop} were encoded')


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith('.'))


def test_a_table_is_computed_once(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    assert open_table(tmp_path, KEY) is None
    table = make_table(tmp_path, KEY, features, 4, lambda *what: told.append(what))
    assert told == [(4, 10, 'features'), (8, 10, 'features'), (10, 10, 'features')]
    np.testing.assert_array_equal(table, whole())
    assert (table.dtype, table.flags.writeable) == (np.float32, False)
    np.testing.assert_array_equal(make_table(tmp_path, KEY, never, 4), table)
    assert names(tmp_path) == [f'{KEY.name()}.json', f'{KEY.name()}.npy']
    about = json.loads((tmp_path / f'{KEY.name()}.json').read_text())
    assert about.pop('crc32') > 0
    assert about == {'schema_version': 1, 'dataset': 'dataset', 'encoder': 'encoder',
                     'height': 96, 'width': 64, 'shape': [10, 2, 3]}


@pytest.mark.parametrize('change', [
    {'dataset': 'x'}, {'encoder': 'x'}, {'height': 64}, {'width': 96}])
def test_another_dataset_encoder_or_size_is_another_table(
        change: dict[str, object], tmp_path: Path) -> None:
    make_table(tmp_path, KEY, features, 4)
    other = dataclasses.replace(KEY, **change)
    assert open_table(tmp_path, other) is None
    assert other.name() != KEY.name()


def test_a_large_table_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, '_IN_MEMORY', 100)
    table = make_table(tmp_path, KEY, features, 4)
    assert isinstance(table, np.memmap)
    assert not table.flags.writeable
    np.testing.assert_array_equal(table, whole())


@pytest.mark.parametrize('save_every_s', [0.0, 1000.0])
def test_an_interrupted_table_goes_on_where_it_was(
        save_every_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, '_SAVE_EVERY_S', save_every_s)

    def stop(start: int, end: int) -> np.ndarray:
        if start == 8:
            raise KeyboardInterrupt
        return features(start, end)
    with pytest.raises(KeyboardInterrupt):
        make_table(tmp_path, KEY, stop, 4)
    assert open_table(tmp_path, KEY) is None
    again: list[int] = []

    def go_on(start: int, end: int) -> np.ndarray:
        again.append(start)
        return features(start, end)
    np.testing.assert_array_equal(make_table(tmp_path, KEY, go_on, 4), whole())
    assert again == [8]
    assert len(names(tmp_path)) == 2, 'nothing half-finished stays'


def test_a_killed_process_costs_what_it_had_not_saved(tmp_path: Path) -> None:
    code = (
        'import os, signal, sys\n'
        f'sys.path.insert(0, {str(Path(__file__).parent)!r})\n'
        'from pathlib import Path\n'
        'from ssl_vla_ros.dataset import feature_table\n'
        'from test_dataset_feature_table import features, KEY\n'
        'feature_table._SAVE_EVERY_S = 0.0\n'
        'def killed(start, stop):\n'
        '    if start == 8: os.kill(os.getpid(), signal.SIGKILL)\n'
        '    return features(start, stop)\n'
        'feature_table.make_table(Path(sys.argv[1]), KEY, killed, 4)')
    done = subprocess.run([sys.executable, '-c', code, tmp_path], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    again: list[int] = []
    make_table(tmp_path, KEY, lambda start, stop: (again.append(start), features(start, stop))[1],
               4)
    assert again == [8]


def test_a_table_goes_on_in_the_company_in_which_its_rows_would_have_been(tmp_path: Path) -> None:
    def stop(start: int, end: int) -> np.ndarray:
        if start == 6:
            raise KeyboardInterrupt
        return features(start, end)
    with pytest.raises(KeyboardInterrupt):
        make_table(tmp_path, KEY, stop, 3)
    np.testing.assert_array_equal(make_table(tmp_path, KEY, features, 4), np.concatenate(
        [features(0, 3)[:3], features(3, 6)[:1], features(4, 8), features(8, 10)]))


@pytest.mark.parametrize(('file', 'damage', 'reason'), [
    ('npy', lambda data: data[:-100], 'cannot read it|was changed'),
    ('npy', lambda data: data[:-1] + b'\x07', 'was changed after it was written'),
    ('npy', lambda data: b'', 'cannot read it'),
    ('json', lambda data: data.replace(b'96', b'95'), 'describes another table'),
    ('json', lambda data: data[:20], 'not valid JSON'),
])
def test_a_damaged_table_is_told_and_made_again(
        file: str, damage: object, reason: str, tmp_path: Path) -> None:
    make_table(tmp_path, KEY, features, 4)
    path = tmp_path / f'{KEY.name()}.{file}'
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DatasetError, match=f'{path}: .*({reason})'):
        open_table(tmp_path, KEY)
    with pytest.warns(UserWarning, match=f'a table of features is broken and made again: {path}'):
        np.testing.assert_array_equal(make_table(tmp_path, KEY, features, 4), whole())


@pytest.mark.parametrize('damage', [
    lambda part, state: part.write_bytes(part.read_bytes()[:-30]),
    lambda part, state: state.write_text('{'),
    lambda part, state: state.write_text(state.read_text().replace('encoder"', 'x"')),
    lambda part, state: part.unlink()])
def test_a_damaged_half_table_is_begun_anew(damage: object, tmp_path: Path) -> None:
    def stop(start: int, end: int) -> np.ndarray:
        if start == 8:
            raise KeyboardInterrupt
        return features(start, end)
    with pytest.raises(KeyboardInterrupt):
        make_table(tmp_path, KEY, stop, 4)
    damage(tmp_path / f'{KEY.name()}.npy.part',  # type: ignore[operator]
           tmp_path / f'{KEY.name()}.npy.part.json')
    np.testing.assert_array_equal(make_table(tmp_path, KEY, features, 4), whole())


def test_who_wants_the_same_table_waits_for_it(tmp_path: Path) -> None:
    began, go_on, waiting = threading.Event(), threading.Event(), threading.Event()

    def slow(start: int, stop: int) -> np.ndarray:
        began.set()
        assert go_on.wait(20.0)
        return features(start, stop)
    found: list[np.ndarray] = []
    first = threading.Thread(target=make_table, args=(tmp_path, KEY, slow, 4))
    first.start()
    assert began.wait(20.0)
    second = threading.Thread(target=lambda: found.append(make_table(
        tmp_path, KEY, never, 4,
        lambda done, total, what: waiting.set() if 'waiting for another' in what else None)))
    second.start()
    assert waiting.wait(20.0)
    go_on.set()
    first.join(20.0)
    second.join(20.0)
    np.testing.assert_array_equal(found[0], whole())


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / f'{KEY.name()}.npy.part').symlink_to('/dev/full')
    with pytest.raises(DatasetError, match='the disk is full; a table of features needs 0 MB'):
        make_table(tmp_path, KEY, features, 4)


def test_features_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'features of rows 0 to 4 are \(4, 2, 4\)'):
        make_table(tmp_path, KEY, lambda start, stop: np.zeros((4, 2, 4), np.float32), 4)
