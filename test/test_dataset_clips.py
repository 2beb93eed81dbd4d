# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Clips: rows of one episode alone, pictures and columns of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, HealthCheck, settings, strategies as st
import numpy as np
import pytest

from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.clips import Clips
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.pictures import Pictures
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.errors import DatasetError
from two_cameras import code_of, HEIGHT, read_code, WIDTH, write_two_cameras

LENGTHS = (6, 8, 5, 1, 12)
FIRST = np.concatenate([[0], np.cumsum(LENGTHS)])


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_two_cameras(tmp_path_factory.mktemp('data') / 'dataset', LENGTHS)


@pytest.fixture(scope='module', params=['cache', 'stream'])
def pictures(request: pytest.FixtureRequest, dataset: Dataset,
             tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    if request.param == 'stream':
        return FrameStream(dataset, HEIGHT, WIDTH)
    return FrameCache.build(dataset, HEIGHT, WIDTH, tmp_path_factory.mktemp('cache'))


def columns(dataset: Dataset) -> dict[str, np.ndarray]:
    return {name: dataset.column(name) for name in ('action', 'episode_index', 'frame_index')}


def codes(images: np.ndarray) -> np.ndarray:
    """Read the number in each picture of (…, H, W, 3)."""
    flat = images.reshape(-1, *images.shape[-3:])
    return np.array([read_code(picture) for picture in flat]).reshape(images.shape[:-3])


def test_pictures_and_columns_are_of_the_same_rows(dataset: Dataset, pictures: Pictures) -> None:
    clips = Clips(pictures, length=3, stride=2, columns=columns(dataset))
    batch = clips.read(np.arange(len(clips)))
    assert batch.images.shape == (len(clips), 3, 2, HEIGHT, WIDTH, 3)
    assert batch.columns['action'].shape == (len(clips), 3, 2)
    episodes, frames = (batch.columns[name][..., 0] for name in ('episode_index', 'frame_index'))
    for camera in range(2):
        np.testing.assert_array_equal(
            codes(batch.images[:, :, camera]), code_of(camera, episodes, frames))
    np.testing.assert_array_equal(batch.rows, FIRST[episodes] + frames)
    assert batch.valid.all()


def test_cameras_are_chosen_and_ordered(dataset: Dataset, pictures: Pictures) -> None:
    clips = Clips(pictures, length=2, cameras=['wrist', 'front'])
    images = clips.read(np.array([0])).images
    assert codes(images)[0].tolist() == [
        [code_of(1, 0, 0), code_of(0, 0, 0)], [code_of(1, 0, 1), code_of(0, 0, 1)]]
    none = Clips(pictures, length=2, cameras=[], columns=columns(dataset))
    assert none.read(np.array([4, 5])).images.shape == (2, 2, 0, HEIGHT, WIDTH, 3)


def naive(length: int, stride: int, before: int, padding: str, episodes: list[int]
          ) -> list[tuple[list[int], list[bool]]]:
    """Every clip by loops: rows and whether they are their own."""
    found = []
    for episode in episodes:
        begin, end = FIRST[episode], FIRST[episode + 1]
        for own in range(begin, end):
            wanted = [own + stride * (step - before) for step in range(length)]
            inside = [begin <= row < end for row in wanted]
            if padding == 'repeat' or all(inside):
                found.append(([min(max(row, begin), end - 1) for row in wanted], inside))
    return found


@settings(max_examples=80, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(1, 9), stride=st.integers(1, 4), data=st.data(),
       padding=st.sampled_from(['none', 'repeat']),
       episodes=st.lists(st.integers(0, 4), min_size=1, unique=True))
def test_clips_are_what_loops_give(
        length: int, stride: int, data: Any, padding: str, episodes: list[int],
        dataset: Dataset) -> None:
    before = data.draw(st.integers(0, length - 1))
    wanted = naive(length, stride, before, padding, episodes)
    settings_of = {'length': length, 'stride': stride, 'before': before, 'padding': padding,
                   'episodes': episodes, 'cameras': []}
    pictures = FrameStream(dataset, 8, 8)
    if not wanted:
        with pytest.raises(DatasetError, match='there is no clip'):
            Clips(pictures, **settings_of)
        return
    clips = Clips(pictures, **settings_of)
    assert len(clips) == len(wanted)
    rows, valid = clips.rows(np.arange(len(clips)))
    assert rows.tolist() == [entry[0] for entry in wanted]
    assert valid.tolist() == [entry[1] for entry in wanted]
    owner = np.searchsorted(FIRST, rows, side='right')
    assert (owner == owner[:, :1]).all(), 'a clip has rows of one episode'


def test_an_episode_s_border_repeats_its_own_pictures(
        dataset: Dataset, pictures: Pictures) -> None:
    clips = Clips(pictures, length=3, before=2, padding='repeat', cameras=['front'])
    batch = clips.read(np.array([6, 19]))
    assert codes(batch.images[:, :, 0]).tolist() == [
        [code_of(0, 1, 0)] * 3, [code_of(0, 3, 0)] * 3]
    assert batch.valid.tolist() == [[False, False, True]] * 2


def test_numbers_come_in_any_order_and_twice(pictures: Pictures) -> None:
    clips = Clips(pictures, length=2)
    pick = np.array([9, 0, 9])
    batch = clips.read(pick)
    np.testing.assert_array_equal(batch.images[0], batch.images[2])
    np.testing.assert_array_equal(batch.images[1], clips.read(np.array([0])).images[0])
    assert clips.read(np.zeros(0, np.int64)).images.shape == (0, 2, 2, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(('change', 'sentence'), [
    ({'length': 0}, 'length of clips is 0, must be at least 1'),
    ({'stride': 0}, 'stride of clips is 0, must be at least 1'),
    ({'before': 4}, 'before of clips is 4, must be 0 to length - 1 = 3'),
    ({'before': -1}, 'before of clips is -1'),
    ({'padding': 'repaet'}, "padding of clips is 'repaet', must be none or repeat.*'repeat'"),
    ({'length': 13}, 'no clip of 13 rows with stride 1: it spans 13 rows and the longest episode '
                     'has 12; shorten'),
    ({'stride': 4}, 'it spans 13 rows'),
    ({'cameras': ['top']}, "there is no camera 'top'"),
    ({'episodes': [5]}, 'there is no episode 5; the dataset has episodes 0 to 4'),
    ({'episodes': []}, 'there is no clip'),
    ({'columns': {'action': np.zeros((31, 2))}},
     "column 'action' of clips has 31 rows, the dataset 32"),
    ({'columns': {'valid': np.zeros(32)}}, "a column of clips is called 'valid'"),
])
def test_what_cannot_be_is_said(change: dict[str, Any], sentence: str, pictures: Pictures
                                ) -> None:
    with pytest.raises(DatasetError, match=sentence):
        Clips(pictures, **({'length': 4} | change))


@pytest.mark.parametrize('number', [-1, 27])
def test_a_clip_that_is_not_there_is_said(number: int, pictures: Pictures) -> None:
    clips = Clips(pictures, length=2)
    with pytest.raises(DatasetError, match=f'there is no clip {number}; there are clips 0 to 26'):
        clips.read(np.array([3, number]))


def test_a_table_of_features_is_a_column(dataset: Dataset, tmp_path: Path) -> None:
    features = np.arange(32 * 5 * 4, dtype=np.float32).reshape(32, 5, 4)
    np.save(tmp_path / 'table.npy', features)
    mapped = np.load(tmp_path / 'table.npy', mmap_mode='r')
    clips = Clips(FrameStream(dataset, 8, 8), length=3, cameras=[], columns={'features': mapped})
    batch = clips.read(np.array([7, 2]))
    np.testing.assert_array_equal(batch.columns['features'], features[batch.rows])
    assert batch.columns['features'].flags.writeable
