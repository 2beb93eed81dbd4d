# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Clips under torch's DataLoader, and training with few pictures on disk or none."""

from __future__ import annotations

from pathlib import Path
import shutil

import numpy as np
import pytest
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.clips import Clips
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.pictures import Pictures
from ssl_vla_ros.dataset.sharding import Epochs
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.errors import ConfigError, DatasetError
from ssl_vla_ros.training.loader import ClipStream, ClipTable
from ssl_vla_ros.training.train import train
from ssl_vla_ros.training.workspace import cache_directory
from tiny_training import small_config, write_toy
import torch
from torch.utils.data import DataLoader
from two_cameras import write_two_cameras

Batches = list[dict[str, torch.Tensor]]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_two_cameras(tmp_path_factory.mktemp('data') / 'dataset', (7, 9, 8))


@pytest.fixture(scope='module')
def cache(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return FrameCache.build(dataset, 12, 16, tmp_path_factory.mktemp('cache'))


def make_clips(pictures: Pictures, dataset: Dataset) -> Clips:
    return Clips(pictures, length=3, columns={'action': dataset.column('action')})


def same(left: Batches, right: Batches) -> bool:
    return len(left) == len(right) and all(
        one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
        for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize(('kind', 'workers', 'context'), [
    ('cache', 2, 'fork'), ('stream', 2, 'fork'), ('stream', 0, None)])
def test_every_clip_comes_once_whatever_the_workers(
        kind: str, workers: int, context: str | None, dataset: Dataset, cache: FrameCache
        ) -> None:
    stream = FrameStream(dataset, 12, 16, threads=2)
    clips = make_clips(cache if kind == 'cache' else stream, dataset)
    stream.gather(np.arange(24))  # open videos must not reach the workers
    plan = Epochs(len(clips), 4, seed=5, ranks=2)
    alone = make_clips(cache, dataset)
    seen: list[int] = []
    for rank in range(2):
        data = ClipStream(clips, plan, rank)
        found = list(DataLoader(data, batch_size=None, num_workers=workers,
                                multiprocessing_context=context))
        plain = list(DataLoader(ClipStream(alone, plan, rank), batch_size=None))
        assert same(found, plain)
        assert len(found) == len(data) == plan.num_batches(rank)
        seen += [tuple(row) for batch in found for row in batch['rows'].tolist()]
    every, _ = alone.rows(np.arange(len(alone)))
    assert sorted(seen) == sorted(tuple(row) for row in every.tolist())


def test_tensors_hold_what_the_clips_hold(dataset: Dataset, cache: FrameCache) -> None:
    clips = make_clips(cache, dataset)
    plan = Epochs(len(clips), 4, seed=5)
    batch = next(iter(DataLoader(ClipStream(clips, plan), batch_size=None)))
    wanted = clips.read(next(plan.batches(0)))
    assert batch['images'].dtype == torch.uint8
    np.testing.assert_array_equal(batch['images'].numpy(), wanted.images)
    np.testing.assert_array_equal(batch['action'].numpy(), wanted.columns['action'])
    np.testing.assert_array_equal(batch['valid'].numpy(), wanted.valid)


def test_workers_that_stay_see_the_next_epoch(dataset: Dataset, cache: FrameCache) -> None:
    clips = make_clips(cache, dataset)
    plan = Epochs(len(clips), 4, seed=5)
    data = ClipStream(clips, plan)
    loader = DataLoader(data, batch_size=None, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 4):
        data.set_epoch(epoch)
        wanted = [clips.rows(pick)[0] for pick in plan.batches(epoch)]
        for batch, rows in zip(loader, wanted, strict=True):
            np.testing.assert_array_equal(batch['rows'].numpy(), rows)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_sampler_of_torch_s_own_reads_by_number(
        workers: int, dataset: Dataset, cache: FrameCache) -> None:
    clips = make_clips(cache, dataset)
    table = ClipTable(clips)
    assert len(table) == len(clips)
    assert table[3]['images'].shape == (3, 2, 12, 16, 3)
    loader = DataLoader(table, batch_size=5, shuffle=True, num_workers=workers,
                        generator=torch.Generator().manual_seed(0))
    rows = torch.cat([batch['rows'][:, 0] for batch in loader])
    assert sorted(rows.tolist()) == sorted(clips.rows(np.arange(len(clips)))[0][:, 0].tolist())
    assert rows.tolist() != sorted(rows.tolist())


def test_a_plan_for_other_clips_is_refused(dataset: Dataset, cache: FrameCache) -> None:
    clips = make_clips(cache, dataset)
    with pytest.raises(DatasetError, match='planned for 5 samples, there are 18 clips'):
        ClipStream(clips, Epochs(5, 4))
    with pytest.raises(DatasetError, match='rank is 1, must be 0 to ranks - 1 = 0'):
        ClipStream(clips, Epochs(18, 4), 1)


def test_a_broken_video_reaches_the_user_by_name(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.path, tmp_path / 'dataset')
    copy = Dataset.open(tmp_path / 'dataset')
    copy.video('front', 1).write_bytes(b'no video')
    clips = make_clips(FrameStream(copy, 12, 16, threads=1), copy)
    loader = DataLoader(ClipStream(clips, Epochs(len(clips), 4)), batch_size=None, num_workers=1)
    with pytest.raises(DatasetError, match='the video does not decode'):
        list(loader)


def test_training_on_a_stream_is_training_on_the_cache_bit_for_bit(tmp_path: Path) -> None:
    data = tmp_path / 'data'
    write_toy(data)
    streamed = train(small_config('keypoints', pictures='stream'), data, tmp_path / 'a',
                     quiet=True)
    assert not cache_directory(data).exists(), 'nothing is written'
    cached = train(small_config('keypoints'), data, tmp_path / 'b', quiet=True)
    assert cache_directory(data).exists()
    weights = [(run.path / 'model.safetensors').read_bytes() for run in (streamed, cached)]
    assert weights[0] == weights[1]
    assert streamed.info['config_digest'] == cached.info['config_digest']
    with pytest.raises(ConfigError, match="pictures is 'steam', must be cache or stream.*'str"):
        small_config('keypoints', pictures='steam')


@pytest.mark.parametrize('objective', ['behaviour_cloning', 'world_model'])
def test_with_a_table_of_features_no_picture_is_needed(objective: str, tmp_path: Path) -> None:
    data = tmp_path / 'data'
    write_toy(data)
    encoder = train(small_config('keypoints'), data, tmp_path / 'encoder', quiet=True)
    config = small_config(objective, encoder=encoder.path)
    first = train(config, data, tmp_path / 'a', quiet=True)
    shutil.rmtree(data / 'videos')
    shutil.rmtree(cache_directory(data) / 'frames')
    again = train(config, data, tmp_path / 'b', quiet=True)
    assert (first.path / 'model.safetensors').read_bytes() == (
        again.path / 'model.safetensors').read_bytes()
    shutil.rmtree(cache_directory(data) / 'features')
    with pytest.raises(DatasetError, match='the video is missing'):
        train(config, data, tmp_path / 'c', quiet=True)
