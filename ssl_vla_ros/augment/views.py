# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Views: pictures as contrastive, distilling and joint-embedding objectives want them augmented.

Geometry is alike in all pictures of a sample. Colours are drawn for each picture, as cameras
expose on their own; but the frames that one camera gives of a clip share them, since a camera
does not flicker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import math

from ssl_vla_ros.augment.colour import (
    blur_planes_, draw_blur, draw_grey, draw_jitter, grey_planes_, jitter_planes, JitterConfig)
from ssl_vla_ros.augment.geometry import draw_flips, draw_shifts, mirrored_places, shifted_places
from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.augment.planes import check_images, parts, planes_of
from ssl_vla_ros.augment.resample import draw_window, planes_at, taken
from ssl_vla_ros.errors import ConfigError
import torch
from torch import Tensor

#: Dimensions of clips: (batch, T, cameras, height, width, 3). Axis 1 is time there alone.
_CLIPS = 6


@dataclass(frozen=True)
class ViewConfig:
    """
    What a view varies, in this order. A share is the part of pictures that a step is done to.

    Raises
    ------
    ConfigError
        For a value that cannot be, naming key and value.

    """

    crop_smallest: float = 0.8         # share of the area kept at least; 1 switches crops off
    crop_longest_side: float = 4 / 3   # sides of a crop, to each other; 1 keeps the shape
    flip_share: float = 0.0            # off: it mirrors the workspace, but no action and no state
    camera_shift: int = 0              # most pixels at the given size; 0 switches it off
    jitter: JitterConfig = field(default_factory=JitterConfig)
    jitter_share: float = 0.8
    grey_share: float = 0.2            # 0 where a colour tells what is what
    blur_smallest: float = 0.1         # standard deviation, pixels
    blur_largest: float = 2.0
    blur_share: float = 0.5
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    photometric_share: float = 0.0     # off: the jitter varies light; noise for each pixel is slow

    def __post_init__(self) -> None:
        """Check every value."""
        inf = math.inf
        _within('crop_smallest', self.crop_smallest, 0.0, 1.0, '1 switches crops off',
                above=True)
        _within('crop_longest_side', self.crop_longest_side, 1.0, inf, '1 keeps the shape')
        _within('camera_shift', self.camera_shift, 0, inf, '0 switches shifts off')
        for name in ('flip', 'jitter', 'grey', 'blur', 'photometric'):
            key = f'{name}_share'
            _within(key, getattr(self, key), 0.0, 1.0, '0 switches it off')
        for name in ('brightness', 'contrast', 'saturation', 'hue'):
            _within(f'jitter.{name}', getattr(self.jitter, name), 0.0,
                    0.5 if name == 'hue' else inf, '0 leaves it as it is')
        for name in ('exposure', 'white_balance', 'sensor_noise'):
            _within(f'photometric.{name}', getattr(self.photometric, name), 0.0, inf,
                    '0 leaves it as it is')
        _within('blur_smallest', self.blur_smallest, 0.0, inf, 'it is in pixels', above=True)
        _within('blur_largest', self.blur_largest, self.blur_smallest, inf,
                'blur_smallest may not be above it')


def _within(key: str, value: float, low: float, high: float, hint: str, above: bool = False
            ) -> None:
    if math.isfinite(value) and low <= value <= high and not (above and value == low):
        return
    bounds = f'above {low:g}' if above else f'at least {low:g}'
    bounds += '' if high == math.inf else f' and at most {high:g}'
    raise ConfigError(f'views: {key} is {value}, must be {bounds} ({hint})')


def view(images: Tensor, config: ViewConfig, generator: torch.Generator) -> Tensor:
    """
    One augmented view of pictures.

    Source: "A Simple Framework for Contrastive Learning of Visual Representations" (Chen et al.,
    2020), appendix A, with larger crops and without mirroring, as befits a robot.

    Parameters
    ----------
    images
        (batch, height, width, 3), (batch, cameras, height, width, 3) or clips (batch, T, cameras,
        height, width, 3), uint8 or float, values 0 … 255. All pictures of a sample are moved
        alike. All frames of one camera of a clip have the same colours, blur, gains and noise
        level; cameras have their own.
    config
        Strengths. What is switched off costs nothing, draws nothing and changes no value.
    generator
        Source of every random number, on the device of the pictures.

    Returns
    -------
    torch.Tensor
        float32, same shape, 0 … 255. Other memory than ``images``, unless all is switched off and
        they are float32.

    Raises
    ------
    ValueError
        If the pictures have another shape.
    ConfigError
        If the camera's shift is as large as the picture.

    """
    check_images(images)
    if images.ndim > _CLIPS:
        raise ValueError(f'pictures are {tuple(images.shape)}; the longest that a view is made of '
                         'are (batch, T, cameras, height, width, 3)')
    images = images.contiguous()
    draws = _draw(images, config, generator)
    if draws.places or draws.jitter or draws.blur or draws.grey is not None:
        found = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        for part in parts(len(images), math.prod(images.shape[1:]), images.device):
            found[part] = _planes(images, draws, part).movedim(-3, -1)
    else:
        found = images.float()
    if (config.photometric_share > 0.0
            and config.photometric != PhotometricConfig(0.0, 0.0, 0.0)):
        found = photometric(
            found, config.photometric, generator, config.photometric_share, draws.alike)
    return found


@dataclass(frozen=True)
class _Draws:
    """What is done to a batch; None for what is switched off. The first axis is the batch's."""

    alike: tuple[int, ...]
    places: tuple[Tensor, Tensor] | None    # rows and columns that are read
    jitter: tuple[Tensor, Tensor] | None    # matrix and lift
    grey: Tensor | None
    blur: tuple[Tensor, Tensor] | None      # kernel, and which


def _draw(images: Tensor, config: ViewConfig, generator: torch.Generator) -> _Draws:
    """Draw in the order in which it is done."""
    alike = (1,) if images.ndim == _CLIPS else ()
    lead, device = images.shape[:-3], images.device
    places = _draw_places(images, config, generator)
    jitter, grey, blur = None, None, None
    # Without any strength a jitter would do nothing but round.
    if config.jitter_share > 0.0 and config.jitter != JitterConfig(0.0, 0.0, 0.0, 0.0):
        jitter = draw_jitter(lead, config.jitter, generator, device, config.jitter_share, alike)
    if config.grey_share > 0.0:
        grey = draw_grey(lead, config.grey_share, generator, device, alike)
    if config.blur_share > 0.0:
        sigmas, size = (config.blur_smallest, config.blur_largest), min(images.shape[-3:-1])
        blur = draw_blur(lead, sigmas, size, generator, device, config.blur_share, alike)
    return _Draws(alike, places, jitter, grey, blur)


def _draw_places(images: Tensor, config: ViewConfig, generator: torch.Generator
                 ) -> tuple[Tensor, Tensor] | None:
    """Rows and columns (batch, ·) that a crop, a mirror and a shift read, one after the other."""
    (height, width), batch, device = images.shape[-3:-1], images.shape[0], images.device
    if config.camera_shift >= min(height, width):
        raise ConfigError(
            f'views: camera_shift is {config.camera_shift}, must be smaller than the picture '
            f'({height}x{width})')
    crop = config.crop_smallest < 1.0
    if not (crop or config.flip_share > 0.0 or config.camera_shift > 0):
        return None
    rows = torch.arange(height, device=device).expand(batch, -1)
    columns = torch.arange(width, device=device).expand(batch, -1)
    window = draw_window(batch, (config.crop_smallest, 1.0), config.crop_longest_side, generator,
                         device) if crop else None
    flipped = (draw_flips(batch, config.flip_share, generator, device)
               if config.flip_share > 0.0 else None)
    # What is done last is followed back first.
    if config.camera_shift > 0:
        shifts = draw_shifts(batch, config.camera_shift, generator, device)
        rows, columns = shifted_places(height, shifts[0]), shifted_places(width, shifts[1])
    if flipped is not None:
        columns = mirrored_places(columns, flipped, width)
    if window is not None:
        rows = window.rows(rows, height, height)
        columns = window.columns(columns, width, width)
    return rows, columns


def _planes(images: Tensor, draws: _Draws, part: slice) -> Tensor:
    """Do it to some samples; planes (n, …, 3, height, width), float32."""
    if draws.places:
        samples = torch.arange(part.start, part.stop, device=images.device)
        rows, columns = draws.places
        planes = planes_at(images, samples, rows[part], columns[part]).float()
    else:
        planes = planes_of(images[part])
    if draws.jitter:
        matrix, lift = draws.jitter
        planes = jitter_planes(planes, matrix[part], lift[part], draws.alike)
    if draws.grey is not None:
        planes = grey_planes_(planes, draws.grey[part])
    if draws.blur:
        kernel, which = draws.blur
        planes = blur_planes_(planes, kernel[part], which[part])
    return planes


def resized_crops(images: Tensor, count: int, size: int, area: tuple[float, float],
                  generator: torch.Generator, longest_side: float = 4 / 3) -> Tensor:
    """
    Cut several random parts of each sample, at a size of their own: the crops of multi-crop.

    Source: "Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021),
    section 3.1 (areas 0.05 … 0.4 for local crops).

    Parameters
    ----------
    images
        (batch, …, height, width, 3), uint8 or float, values 0 … 255. All pictures of a sample are
        cut alike.
    count
        Parts of each sample.
    size
        Height and width of the result, pixels. Bilinear without a filter against aliasing: a part
        of more than twice as many pixels is thinned out rather than averaged.
    area
        Smallest and largest share of the picture's area.
    generator
        Source of areas, shapes and places.
    longest_side
        Sides of a part are to each other as 1 / longest_side … longest_side times the picture's.

    Returns
    -------
    torch.Tensor
        (count · batch, …, size, size, 3) float32: the first part of every sample, then the second
        of every sample, and so on.

    Raises
    ------
    ValueError
        If a number or the area cannot be.

    """
    check_images(images)
    low, high = area
    if count < 1 or size < 1:
        raise ValueError(f'count is {count} and size is {size}, both must be at least 1')
    if not 0.0 < low <= high <= 1.0 or not 1.0 <= longest_side < math.inf:
        raise ValueError(f'area is {area}, must be above 0, rising and up to 1; longest_side is '
                         f'{longest_side}, must be at least 1')
    height, width = images.shape[-3:-1]
    window = draw_window(
        count * images.shape[0], area, longest_side, generator, images.device)
    places = torch.arange(size, device=images.device)[None]
    return taken(
        images, window.rows(places, size, height), window.columns(places, size, width))
