# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Where each check draws its lines, and how a file of one's own moves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
import math
from typing import Any

from ssl_vla_ros.contract import suggestion
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.yaml_text import load_yaml, yaml_problem
import yaml


@dataclass(frozen=True)
class Thresholds:
    """
    Every bound of the gate; docs/quality.md has the table with the reasons.

    What is over a ``…_doubtful`` bound makes an episode doubtful, what reaches a ``…_refused`` one
    refuses it. Shares are from 0 to 1. Lengths of motion are in the units of the stream: rad for
    joints, m for poses. ``.inf`` switches a bound off (0 does, for rates and contrast).
    """

    # -- length ------------------------------------------------------------------------------
    min_rows: int = 2               # fewer rows at the control rate are no episode: refused
    short_s: float = 1.0            # shorter than this is doubtful
    # -- timing of each stream ---------------------------------------------------------------
    expected_hz: Mapping[str, float] = field(default_factory=dict)  # by label; else rate_hz
    rate_doubtful: float = 0.9      # below this share of the expected rate
    rate_refused: float = 0.5       # at or below this share of it, for cameras and state
    gap_doubtful_s: float = 0.25    # longest time without a message
    gap_refused_s: float = 1.0      # the same, for cameras and state
    missing_doubtful: float = 0.02  # share of the time of a camera or state that lies in gaps
    missing_refused: float = 0.2    # the same
    edge_doubtful_s: float = 1.0    # a stream begins later, or ends earlier, than the others
    edge_refused: float = 0.25      # share of the episode that a camera or state lacks there
    order_doubtful: float = 0.02    # share of stamps that are zero, doubled or go backward
    order_refused: float = 0.2      # the same
    clock_doubtful_s: float = 0.3   # a stream's delay differs from the others' by more
    clock_refused_s: float = 1.0    # the same: no transport is that slow, a clock is off
    skew_doubtful: float = 0.02     # share of ticks over sync.max_skew_s (refused: the contract)
    # -- messages ----------------------------------------------------------------------------
    unusable_doubtful: float = 0.0  # share of messages that cannot be read (any is doubtful)
    unusable_refused: float = 0.1   # the same
    nan_refused: float = 0.01       # share of messages or rows with NaN (any is doubtful)
    lost_doubtful: float = 0.001    # share of what was published that was lost or dropped
    lost_refused: float = 0.1       # the same
    # -- pictures ----------------------------------------------------------------------------
    min_contrast: float = 4.0       # standard deviation over the picture, of 255; less is flat
    flat_doubtful: float = 0.02     # share of pictures that are black, white or one colour
    flat_refused: float = 0.5       # the same
    frozen_motion: float = 0.05     # the picture stays although the state moved by as much
    frozen_doubtful_s: float = 0.5  # for as long
    frozen_refused_s: float = 2.0   # the same
    frozen_refused: float = 0.2     # share of the episode with a frozen picture
    duplicate_motion: float = 0.01  # a picture came twice although the state moved by as much
    duplicates_doubtful: float = 0.1    # share of such pictures among those taken in motion
    video_same: float = 4.0         # grey levels that a codec may change in an equal picture
    # -- values ------------------------------------------------------------------------------
    constant_range: float = 1e-4    # a value that stays within this never changes
    noise_ratio: float = 1.0        # von Neumann ratio from which a state is noise, not motion
    jump_speed: float = 10.0        # rad/s or m/s: no joint of an arm is faster
    jump_alone: float = 5.0         # a jump is as many times larger than the steps around it
    speed_factor: float = 1.5       # times limits.joints.NAME.max_velocity is too fast
    jumps_refused: int = 10         # as many jumps of one stream (one is doubtful)
    limit_doubtful: float = 0.01    # share of time within the margin of a joint's limit
    idle_window_s: float = 0.5      # the arm is idle where within as much time …
    idle_motion: float = 0.005      # … no value moves by more
    idle_doubtful: float = 0.5      # share of the episode
    idle_edge_s: float = 2.0        # idle time at the start or the end
    # -- action and state --------------------------------------------------------------------
    lag_correlation: float = 0.6    # a lag that is less sure says nothing
    lag_doubtful_s: float = 0.5     # the state follows the action later than this
    lead_doubtful_s: float = 0.1    # the state moves before the action by more than this

    def to_dict(self) -> dict[str, Any]:
        """Return the thresholds as JSON-ready values; infinite ones as the text ``inf``."""
        return {key: 'inf' if isinstance(value, float) and math.isinf(value) else value
                for key, value in asdict(self).items()}


#: Bounds of which the first must not be over the second, or an episode would be refused before
#: it is doubtful.
_ORDERED = (
    ('gap_doubtful_s', 'gap_refused_s'), ('missing_doubtful', 'missing_refused'),
    ('order_doubtful', 'order_refused'), ('clock_doubtful_s', 'clock_refused_s'),
    ('unusable_doubtful', 'unusable_refused'), ('lost_doubtful', 'lost_refused'),
    ('flat_doubtful', 'flat_refused'), ('frozen_doubtful_s', 'frozen_refused_s'),
    ('rate_refused', 'rate_doubtful'))


def parse_thresholds(text: str, source: str) -> Thresholds:
    """
    Read thresholds from YAML; what is not there keeps its default.

    Parameters
    ----------
    text
        The YAML document: a mapping from names of ``Thresholds`` to numbers.
    source
        The file's name, for error messages.

    Raises
    ------
    ConfigError
        Naming file, key and value, for anything unknown or out of range.

    """
    try:
        data = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f'{source}: not valid YAML: {yaml_problem(error)}') from error
    if data is None:
        return Thresholds()
    if not isinstance(data, Mapping):
        raise ConfigError(f'{source}: must be a mapping from threshold to number, not {data!r}')
    known = {item.name: item for item in fields(Thresholds)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            raise ConfigError(f'{source}: unknown threshold {key!r} (value {value!r})'
                              f'{suggestion(str(key), known)}')
        if key == 'expected_hz':
            values[key] = _rates(value, source)
        elif isinstance(known[key].default, int):
            values[key] = _number(key, value, source, whole=True)
        else:
            values[key] = _number(key, value, source)
    found = Thresholds(**values)
    for low, high in _ORDERED:
        if getattr(found, low) > getattr(found, high):
            raise ConfigError(
                f'{source}: {low} is {getattr(found, low):g}, must not be over {high}, which is '
                f'{getattr(found, high):g}')
    return found


def _number(key: str, value: object, source: str, *, whole: bool = False) -> float:
    good = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not good or math.isnan(value) or value < 0:  # type: ignore[arg-type, operator]
        want = 'a whole number, 0 or more' if whole else 'a number, 0 or more (.inf for never)'
        raise ConfigError(f'{source}: {key} is {value!r}, must be {want}')
    return value if whole else float(value)  # type: ignore[return-value, arg-type]


def _rates(value: object, source: str) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f'{source}: expected_hz is {value!r}, must be a mapping from stream to Hz, such as '
            '{image.front: 30}')
    return {str(label): _number(f'expected_hz.{label}', rate, source)
            for label, rate in value.items()}


def check_labels(thresholds: Thresholds, labels: tuple[str, ...]) -> None:
    """
    Refuse an expected rate of a stream that the episode's contract does not have.

    Raises
    ------
    ConfigError
        Naming the stream and the nearest one there is.

    """
    for label in thresholds.expected_hz:
        if label not in labels:
            raise ConfigError(
                f'thresholds: expected_hz names the stream {label!r}, which this robot has not'
                f'{suggestion(label, labels)}')
