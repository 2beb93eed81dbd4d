# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: real videos in, one PNG out, and a line for each augmentation."""

from __future__ import annotations

from pathlib import Path
import re

import cv2
import numpy as np
import pytest
from ssl_vla_ros import cli
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.errors import ConfigError, DatasetError
from ssl_vla_ros.places import own_file
from ssl_vla_ros.training.preview import preview
from two_cameras import write_two_cameras

LENGTHS = (5, 9)
#: In the order of the sheet.
NAMES = ['original', 'random_resized_crop', 'flip', 'camera_shift', 'colour_jitter',
         'random_grey', 'gaussian_blur', 'photometric', 'resized_crops', 'view', 'view',
         'a clip', 'camera_shift', 'view', 'temporal_crop']


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('preview') / 'dataset'
    write_two_cameras(path, LENGTHS)
    return path


def test_a_sheet_shows_every_augmentation_and_the_dataset_is_left_alone(
        dataset: Path, tmp_path: Path) -> None:
    before = sorted(dataset.parent.rglob('*'))
    done = preview(dataset, tmp_path / 'new' / 'sheet.png', rows=4, height=48, width=64)
    assert [strip.name for strip in done.strips] == NAMES
    assert done.camera == 'front'
    sheet = cv2.imread(str(done.path))
    assert sheet is not None
    assert sheet.shape == (15 * 52 + 4, 200 + 4 * 68, 3)
    assert sorted(dataset.parent.rglob('*')) == before, 'no cache is written'
    assert [path.name for path in done.path.parent.iterdir()] == ['sheet.png']
    real = FrameStream(Dataset.open(dataset), 48, 64).read('front', np.array([0, 4, 8, 13]))
    assert np.array_equal(done.strips[0].pictures, real)
    # In the file, too, and in its colours: OpenCV has them the other way round.
    assert np.array_equal(sheet[4:52, 200:264, ::-1], real[0])
    for strip in done.strips[1:9]:
        assert strip.pictures.shape[1:] != real.shape[1:] or any(
            not np.array_equal(one, other)
            for one, other in zip(strip.pictures, real, strict=True)), strip.name


def test_a_clip_is_of_one_episode_and_its_frames_move_alike(
        dataset: Path, tmp_path: Path) -> None:
    strips = preview(
        dataset, tmp_path / 'a.png', rows=4, height=48, width=64, camera='wrist').strips
    clip, shifted, _, cut = (strip.pictures for strip in strips[11:])
    real = FrameStream(Dataset.open(dataset), 48, 64).read('wrist', 5 + 2 * np.arange(4))
    assert np.array_equal(clip, real)
    assert not np.array_equal(shifted, clip)
    rows, columns = np.arange(48), np.arange(64)
    same = [(down, across) for down in range(-2, 3) for across in range(-2, 3)
            if np.array_equal(shifted, clip[:, np.clip(rows + down, 0, 47)][
                :, :, np.clip(columns + across, 0, 63)])]
    assert len(same) == 1, 'one shift explains every frame'
    kept = [np.array_equal(one, other) for one, other in zip(cut, clip, strict=True)]
    assert sum(kept) == 3, 'round(0.8 · 4)'
    assert kept[1] and kept[2]
    assert bool((cut[kept.index(False)] == 255).all())


def test_a_seed_repeats_the_file_and_another_does_not(dataset: Path, tmp_path: Path) -> None:
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        preview(dataset, tmp_path / f'{name}.png', rows=2, seed=seed, height=32, width=32)
    first, again, other = ((tmp_path / f'{name}.png').read_bytes() for name in 'abc')
    assert first == again
    assert first != other


def test_the_command_says_what_it_wrote_and_what_comes_next(
        dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'sheet.png'
    out.write_text('old')
    assert cli.main(['augment', 'preview', str(dataset), '--out', str(out), '--rows', '1',
                     '--height', '24', '--width', '16']) == 0
    told = capsys.readouterr().out
    assert f'{out}: 15 lines of 1 pictures of camera front, 24x16, seed 0' in told
    assert f'Next: ssl_vla train --config config/train/simclr.yaml --data {dataset}' in told
    assert own_file(Path('config/train/simclr.yaml')).is_file(), 'what comes next is there'
    assert cv2.imread(str(out)) is not None


@pytest.mark.parametrize(('words', 'complaint'), [
    (['--out', 'x.jpg'], 'out is x.jpg, must end in .png'),
    (['--out', 'x.png', '--rows', '15'], 'rows is 15, the dataset has 14'),
    (['--out', 'x.png', '--height', '8'], 'height is 8, must lie between 16 and 1024'),
    (['--out', 'x.png', '--width', '5000'], 'width is 5000'),
    (['--out', 'x.png', '--seed', '-1'], 'seed is -1, must be at least 0'),
    (['--out', 'x.png', '--camera', 'wirst'], "no camera 'wirst'")])
def test_a_mistake_is_one_sentence_and_writes_nothing(
        dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], words: list[str], complaint: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(['augment', 'preview', str(dataset), *words]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_without_a_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='no dataset here'):
        preview(tmp_path, tmp_path / 'sheet.png')
    with pytest.raises(ConfigError, match='rows is 0'):
        preview(tmp_path, tmp_path / 'sheet.png', rows=0)


def test_every_augmentation_has_a_small_picture_in_the_docs() -> None:
    docs = Path(__file__).parents[1] / 'docs'
    named = re.findall(r'\]\((images/[^)]+)\)', (docs / 'augmentation.md').read_text())
    for path in named:
        assert (docs / path).stat().st_size < 150_000, path
    shown = {Path(path).stem for path in named}
    assert {name for name in NAMES if name != 'a clip'} <= shown
    assert sorted(named) == sorted(set(named))
    assert {path.stem for path in (docs / 'images' / 'augmentation').iterdir()} == shown
