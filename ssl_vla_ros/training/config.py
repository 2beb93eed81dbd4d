# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Training configuration: frozen dataclasses read from YAML, with dotted overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from dataclasses import dataclass
import math
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints, TypeVar

from ssl_vla_ros.contract import nearest, suggestion
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.vision import VisionConfig
from ssl_vla_ros.yaml_text import load_yaml, yaml_problem
import yaml

T = TypeVar('T')

#: Where the numbers a head is trained on come from.
FEATURE_SOURCES = ('encoder', 'random', 'imagenet', 'true_pose', 'none')
#: Where pictures come from: decoded once to the disk, or each time they are wanted.
PICTURE_SOURCES = ('cache', 'stream')
#: Lightning's names: full, or mixed with bfloat16 or float16; losses are float32 all the same.
PRECISIONS = ('32-true', 'bf16-mixed', '16-mixed')
#: How several processes train: with copies of the network, or with each its part of it.
STRATEGIES = ('auto', 'ddp', 'fsdp')


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, apart from the data. Each field can be overridden by name."""

    objective: str | Mapping[str, float]   # of the registry; or several, with their weights
    steps: int
    batch_size: int                   # samples of a step, over all processes
    learning_rate: float
    height: int = 96                  # the encoder's input size, pixels
    width: int = 96
    weight_decay: float = 1e-4
    warmup_steps: int = 100           # linear warm-up, then a cosine down to zero
    gradient_clip: float = 1.0        # norm; 0 does not clip
    accumulate: int = 1               # batches whose gradients make one step
    ema: float = 0.0                  # of all weights, which are then what is kept; 0: none
    precision: str = '32-true'        # one of PRECISIONS
    compile: bool = False             # noqa: A003, torch.compile for blocks of transformers
    strategy: str = 'auto'            # one of STRATEGIES, over the processes of torchrun or SLURM
    threads: int = 0                  # of torch; 0 leaves its own choice
    seed: int = 0
    held_out_fraction: float = 0.1    # of the episodes, never trained on
    split_seed: int = 0
    checkpoint_every: int = 200       # steps
    probe_every: int = 200            # steps, for encoders; 0 probes at the end only
    log_every: int = 20               # steps
    tensorboard: bool = False         # write curves for TensorBoard, too
    wandb: str = ''                   # project of Weights & Biases; '' does not write there
    encoder: str = ''                 # directory of the run whose frozen encoder is used
    features: str = 'encoder'         # one of FEATURE_SOURCES
    pictures: str = 'cache'           # one of PICTURE_SOURCES; a run may go on with the other
    network: VisionConfig = dataclasses.field(default_factory=VisionConfig)   # the encoder
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)   # the objective's settings

    @property
    def weights(self) -> dict[str, float]:
        """Objectives by name, with their weights."""
        if isinstance(self.objective, str):
            return {self.objective: 1.0}
        return dict(self.objective)

    @property
    def title(self) -> str:
        """Join the objectives to one word, for people."""
        return '+'.join(self.weights)


def _convert(value: object, kind: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return parse_dataclass(kind, value, where)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            pass
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (str, bool) and isinstance(value, kind):
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return _convert_tuple(value, get_args(kind), where)
    if isinstance(kind, UnionType):
        return _convert_union(value, get_args(kind), where)
    if kind not in (int, float, str, bool) and isinstance(value, Mapping):
        return dict(value)
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    raise ConfigError(f'{where} is {value!r}, must be of type {name}')


def _convert_tuple(value: Sequence[object], kinds: tuple[Any, ...], where: str
                   ) -> tuple[Any, ...]:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_convert(item, kinds[0], where) for item in value)
    if len(value) != len(kinds):
        raise ConfigError(f'{where} is {list(value)!r}, must hold {len(kinds)} values')
    return tuple(_convert(item, kind, where) for item, kind in zip(value, kinds, strict=True))


def _convert_union(value: object, kinds: tuple[Any, ...], where: str) -> Any:
    for kind in kinds:
        try:
            return _convert(value, kind, where)
        except ConfigError:
            continue
    raise ConfigError(f'{where} is {value!r}, must be of type '
                      f'{" or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)}')


def parse_dataclass(kind: type[T], data: object, where: str) -> T:
    """
    Build a dataclass from plain values.

    Raises
    ------
    ConfigError
        Naming ``where`` and the key, for an unknown or missing key or a wrong type.

    """
    if not isinstance(data, Mapping):
        raise ConfigError(f'{where} is {data!r}, must be a mapping')
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            raise ConfigError(
                f'{where}: unknown key {key!r} (value {data[key]!r}){suggestion(str(key), names)}')
    values = {key: _convert(value, hints[key], f'{where}: {key}') for key, value in data.items()}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        required = (field.default is dataclasses.MISSING
                    and field.default_factory is dataclasses.MISSING)
        if required and field.name not in values:
            raise ConfigError(f'{where}: {field.name} is missing')
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f'{where}: {error}') from error


def apply_overrides(data: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """
    Lay ``key.sub=value`` words over a configuration; values are read as YAML.

    Raises
    ------
    ConfigError
        If a word has no ``=``, passes through something that is no mapping, or its value is
        broken.

    """
    for word in overrides:
        path, separator, text = word.partition('=')
        if not separator or not path:
            raise ConfigError(f'{word!r} is no override; write key=value, e.g. steps=1000')
        target = data
        *parents, last = path.split('.')
        for parent in parents:
            following = target.setdefault(parent, {})
            if not isinstance(following, dict):
                raise ConfigError(f'{word!r}: {parent} is {following!r}, no mapping')
            target = following
        try:
            target[last] = load_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f'{word!r}: the value is not valid YAML: {yaml_problem(error)}'
            ) from error
    return data


def check_config(config: TrainConfig, where: str) -> None:
    """Raise ``ConfigError`` for values that fit their type but not each other."""
    for name in ('steps', 'batch_size', 'accumulate', 'height', 'width', 'checkpoint_every',
                 'log_every'):
        if getattr(config, name) < 1:
            raise ConfigError(f'{where}: {name} is {getattr(config, name)}, must be at least 1')
    for name in ('seed', 'split_seed', 'threads', 'warmup_steps', 'probe_every', 'weight_decay',
                 'gradient_clip'):
        value = getattr(config, name)
        if not 0 <= value < math.inf:  # so NaN is refused, too
            raise ConfigError(f'{where}: {name} is {value}, must be at least 0 and finite')
    if not 0.0 < config.learning_rate < math.inf:
        raise ConfigError(
            f'{where}: learning_rate is {config.learning_rate}, must be above 0 and finite')
    if not 0.0 < config.held_out_fraction < 1.0:
        raise ConfigError(
            f'{where}: held_out_fraction is {config.held_out_fraction}, must lie between 0 and 1')
    if config.features not in FEATURE_SOURCES:
        raise ConfigError(
            f'{where}: features is {config.features!r}, must be one of '
            f'{", ".join(FEATURE_SOURCES)}{nearest(config.features, FEATURE_SOURCES)}')
    if config.pictures not in PICTURE_SOURCES:
        raise ConfigError(
            f'{where}: pictures is {config.pictures!r}, must be cache or stream'
            f'{nearest(config.pictures, PICTURE_SOURCES)}')
    for name, known in (('precision', PRECISIONS), ('strategy', STRATEGIES)):
        if getattr(config, name) not in known:
            raise ConfigError(
                f'{where}: {name} is {getattr(config, name)!r}, must be one of '
                f'{", ".join(known)}{nearest(getattr(config, name), known)}')
    if not 0.0 <= config.ema < 1.0:
        raise ConfigError(f'{where}: ema is {config.ema}, must be at least 0 and below 1')
    if not config.weights:
        raise ConfigError(f'{where}: objective is empty; name one, or several with weights')
    for name, weight in config.weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0.0 < weight < math.inf:
            raise ConfigError(
                f'{where}: objective: the weight of {name} is {weight!r}, must be above 0 and '
                'finite')


def load_train_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """
    Read a training configuration and lay overrides over it.

    Raises
    ------
    ConfigError
        Naming file, key and value.

    """
    try:
        data = load_yaml(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'{path}: cannot read it: {error}; config/train/ has examples') from error
    except yaml.YAMLError as error:
        raise ConfigError(f'{path}: not valid YAML: {yaml_problem(error)}') from error
    if not isinstance(data, dict):
        raise ConfigError(f'{path}: must hold a mapping, not {data!r}')
    config = parse_dataclass(TrainConfig, apply_overrides(data, overrides), str(path))
    check_config(config, str(path))
    return config
