# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A contact sheet: what each augmentation makes of pictures of a dataset.

Wrong strengths are seen at a glance, and in no loss curve: a shift that pushes the gripper out of
the picture, a jitter that makes the red cube blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.augment.colour import colour_jitter, gaussian_blur, JitterConfig, random_grey
from ssl_vla_ros.augment.geometry import camera_shift, flip, random_resized_crop
from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.augment.temporal import temporal_crop
from ssl_vla_ros.augment.views import resized_crops, view, ViewConfig
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.errors import ConfigError, DatasetError
import torch
from torch import Tensor

Picture = NDArray[np.uint8]

#: Of the sheet, in pixels: the column of names, what lies between pictures, the lowest line.
_NAMES, _GAP, _LINE = 200, 4, 40
#: Smallest and largest side of a picture: below, nothing can be told; above, no screen shows it.
_SIDES = (16, 1024)
#: Seconds from one frame of the clip to the next, so that the arm is seen to move.
_CLIP_STEP_S = 0.25


@dataclass(frozen=True)
class Strip:
    """One line of the sheet: what was done, with which setting, and the pictures (n, h, w, 3)."""

    name: str
    setting: str
    pictures: Picture


@dataclass(frozen=True)
class Preview:
    """A sheet that was written."""

    path: Path
    camera: str
    strips: Sequence[Strip]


def preview(data: Path, out: Path, *, rows: int = 6, seed: int = 0, height: int = 96,
            width: int = 96, camera: str = '') -> Preview:
    """
    Draw a contact sheet of a dataset's pictures; it appears whole or not at all.

    Parameters
    ----------
    data
        Directory of a dataset. Nothing is written beside it.
    out
        The PNG file; one that is there is replaced.
    rows
        Rows of the dataset to show, evenly spread; as many frames of the longest episode at most.
    seed
        Of every draw: each line begins with it anew.
    height, width
        Of a picture, in pixels: as training has it.
    camera
        Whose pictures; '' is the contract's first.

    Raises
    ------
    ConfigError
        If an option cannot be.
    DatasetError
        If there is no dataset, no such camera or fewer rows, or pictures cannot be read.

    """
    _check(out, rows, seed, height, width)
    dataset = Dataset.open(data)
    if not dataset.camera_names:
        raise DatasetError(f'{data}: the dataset has no camera, so there is nothing to show')
    if rows > dataset.num_rows:
        raise DatasetError(f'{data}: rows is {rows}, the dataset has {dataset.num_rows}; ask for '
                           'fewer')
    camera = camera or dataset.camera_names[0]
    stream = FrameStream(dataset, height, width)
    try:
        spread = np.linspace(0, dataset.num_rows - 1, rows).astype(np.int64)
        clip = _clip_rows(dataset.lengths, dataset.fps, rows)
        frames, moving = (torch.from_numpy(stream.read(camera, pick)) for pick in (spread, clip))
    finally:
        stream.close()
    strips = [*picture_strips(frames, seed), *clip_strips(moving, seed)]
    write_png(out, draw_sheet(strips))
    return Preview(out, camera, strips)


def _check(out: Path, rows: int, seed: int, height: int, width: int) -> None:
    if out.suffix != '.png':
        raise ConfigError(f'out is {out}, must end in .png')
    if rows < 1:
        raise ConfigError(f'rows is {rows}, must be at least 1')
    if not 0 <= seed < 2 ** 63:
        raise ConfigError(f'seed is {seed}, must be at least 0 and below 2^63')
    low, high = _SIDES
    for name, value in (('height', height), ('width', width)):
        if not low <= value <= high:
            raise ConfigError(f'{name} is {value}, must lie between {low} and {high}')


def _clip_rows(lengths: Sequence[int], fps: int, count: int) -> NDArray[np.int64]:
    """Rows of the longest episode, a quarter of a second apart where it is long enough."""
    episode = int(np.argmax(lengths))
    count = min(count, lengths[episode])
    stride = min(max(1, round(_CLIP_STEP_S * fps)), max(1, lengths[episode] // count))
    return np.int64(sum(lengths[:episode])) + stride * np.arange(count, dtype=np.int64)


def picture_strips(frames: Tensor, seed: int) -> list[Strip]:
    """
    Augment pictures (n, H, W, 3) uint8 that have nothing to do with each other.

    Every one is augmented, whatever share of them training would choose.
    """
    side = min(frames.shape[1:3])
    most = max(1, round(10 * side / 224))
    views = _generator(seed)
    strips = [
        ('original', '', frames),
        ('random_resized_crop', '0.8 of the area or more',
         random_resized_crop(frames, 0.8, _generator(seed))),
        ('flip', 'off: actions stay as they are', flip(frames, 1.0, _generator(seed))[0]),
        ('camera_shift', f'{most} pixels at most', camera_shift(frames, most, _generator(seed))),
        ('colour_jitter', '0.4, 0.4, 0.4, hue 0.1',
         colour_jitter(frames, JitterConfig(), _generator(seed))),
        ('random_grey', '', random_grey(frames, 1.0, _generator(seed))),
        ('gaussian_blur', 'sigma 0.1 to 2.0 pixels',
         gaussian_blur(frames, (0.1, 2.0), _generator(seed))),
        ('photometric', 'light and noise alone',
         photometric(frames, PhotometricConfig(), _generator(seed))),
        ('resized_crops', '0.05 to 0.4 of the area',
         resized_crops(frames, 1, side // 2, (0.05, 0.4), _generator(seed))),
        ('view', 'all of it, as by default', view(frames, ViewConfig(), views)),
        ('view', 'the same again: the other', view(frames, ViewConfig(), views))]
    return [Strip(name, setting, _rounded(pictures)) for name, setting, pictures in strips]


def clip_strips(frames: Tensor, seed: int) -> list[Strip]:
    """Augment a clip, frames (T, H, W, 3) uint8 of one camera: one draw for all of them."""
    clip = frames[None, :, None]
    most = max(1, round(10 * min(frames.shape[1:3]) / 224))
    cut = temporal_crop({'images': clip, 'step': torch.arange(len(frames))[None]}, 0.8,
                        _generator(seed), ('images', 'step'))
    kept = torch.full_like(frames, 255)
    kept[cut['step'][0]] = cut['images'][0, :, 0]
    strips = [
        ('a clip', 'as it is', frames),
        ('camera_shift', 'all frames alike', camera_shift(clip, most, _generator(seed))[0, :, 0]),
        ('view', 'all frames alike', view(clip, ViewConfig(
            jitter_share=1.0, grey_share=0.0), _generator(seed))[0, :, 0]),
        ('temporal_crop', f'{len(cut["step"][0])} of {len(frames)} steps', kept)]
    return [Strip(name, setting, _rounded(pictures)) for name, setting, pictures in strips]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rounded(pictures: Tensor) -> Picture:
    found: Picture = pictures.round().to(torch.uint8).numpy()
    return found


def draw_sheet(strips: Sequence[Strip]) -> Picture:
    """Draw strips one below the other, (H, W, 3) rgb8: names at the left, pictures beside them."""
    tall, wide = (max(strip.pictures.shape[axis] for strip in strips) for axis in (1, 2))
    tall = max(tall, _LINE)
    most = max(len(strip.pictures) for strip in strips)
    sheet: Picture = np.full(
        (len(strips) * (tall + _GAP) + _GAP, _NAMES + most * (wide + _GAP), 3), 255, np.uint8)
    for line, strip in enumerate(strips):
        top = _GAP + line * (tall + _GAP)
        _write_text(sheet, strip.name, (_GAP, top + 16), 0.45, 0)
        _write_text(sheet, strip.setting, (_GAP, top + 33), 0.36, 110)
        high, broad = strip.pictures.shape[1:3]
        for place, picture in enumerate(strip.pictures):
            left = _NAMES + place * (wide + _GAP) + (wide - broad) // 2
            begin = top + (tall - high) // 2
            sheet[begin:begin + high, left:left + broad] = picture
    return sheet


def _write_text(sheet: Picture, text: str, place: tuple[int, int], size: float, grey: int
                ) -> None:
    cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (grey, grey, grey), 1,
                cv2.LINE_AA)


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture (H, W, 3) rgb8 by one rename, durable; the directory is made if need be."""
    content: Any = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.part')
    with part.open('wb') as file:
        file.write(content.tobytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
