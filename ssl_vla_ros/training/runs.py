# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A run's directory: what it holds, how it is begun, resumed and opened again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import dataclasses
from dataclasses import dataclass
import fcntl
import hashlib
import json
from pathlib import Path
import subprocess
from typing import Any
import warnings

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.objectives import Objective
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.training.building import build_objective
from ssl_vla_ros.training.checkpoint import (
    MODEL, read_tensors, replace_durably, require_same_run, write_tensors)
from ssl_vla_ros.training.config import parse_dataclass, TrainConfig
import torch

RUN_FILE = 'run.json'
MODEL_FILE = 'model.safetensors'
CHECKPOINT_FILE = 'checkpoint.safetensors'


#: Changes no weight.
_IDLE = ('threads', 'pictures', 'compile', 'strategy', 'tensorboard', 'wandb', 'checkpoint_every')


def config_digest(config: TrainConfig) -> str:
    """SHA-256 of a configuration's content, less what changes no weight."""
    content = dataclasses.asdict(config)
    for name in _IDLE:
        del content[name]
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def about_run(info: dict[str, Any]) -> dict[str, Any]:
    """
    Give what files of weights tell of their run, from the content of ``run.json``.

    Settings that change no weight are left out of the configuration: the same weights shall be
    the same file.
    """
    told = {key: info.get(key) for key in (
        'config_digest', 'dataset_digest', 'encoder_digest', 'git_commit', 'contract', 'shape',
        'software')}
    config = {key: value for key, value in info['config'].items() if key not in _IDLE}
    return {**told, 'config': config}


def git_commit() -> str:
    """Commit of the source tree this runs from; empty outside a checkout or without git."""
    try:
        found = subprocess.run(
            ['git', '-C', str(Path(__file__).parent), 'rev-parse', 'HEAD'],
            capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ''
    return found.stdout.strip() if found.returncode == 0 else ''


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON by one rename, durable."""
    part = path.with_name(f'.{path.name}.part')
    with part.open('w', encoding='utf-8') as file:
        json.dump(data, file, indent=1)
        file.write('\n')
    replace_durably(part, path)


@dataclass(frozen=True)
class Run:
    """An opened run."""

    path: Path
    config: TrainConfig
    contract: Contract
    shape: DataShape
    info: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether training reached its last step."""
        return bool(self.info.get('status') == 'complete')

    def objective(self) -> Objective:
        """
        Load the trained objective, in evaluation mode.

        Raises
        ------
        ConfigError
            If training has not finished, or the weights are missing or broken.

        """
        if not self.complete:
            raise ConfigError(
                f'{self.path}: training stopped at step {self.info.get("step", 0)} of '
                f'{self.config.steps}; run the same train command again to finish it')
        # Its weights come from the run itself, whatever they were begun with.
        built = build_objective(self.config, self.shape, str(self.path), fresh=True)
        path = self.path / MODEL_FILE
        weights, header = read_tensors(path, MODEL)
        require_same_run(path, MODEL, header['about'], self.info)
        try:
            built.load_state_dict(weights)
        except RuntimeError as error:
            raise ConfigError(
                f'{path}: {MODEL.complaint}: {str(error).splitlines()[0]}; {MODEL.remedy}'
            ) from error
        return built.eval().requires_grad_(False)

    def encoder(self) -> Encoder:
        """
        Load the run's frozen encoder.

        Raises
        ------
        ConfigError
            If the run's objective trains none.

        """
        found = getattr(self.objective(), 'encoder', None)
        if not isinstance(found, Encoder):
            raise ConfigError(
                f'{self.path}: objective {self.config.title!r} trains no encoder; give the '
                'directory of a pretraining run')
        return found


def open_run(path: str | Path) -> Run:
    """
    Open a run's directory.

    Raises
    ------
    ConfigError
        If there is no run there, or its files are broken.

    """
    root = Path(path)
    file = root / RUN_FILE
    try:
        info = json.loads(file.read_text(encoding='utf-8'))
        config = parse_dataclass(TrainConfig, info['config'], str(file))
        contract = parse_contract(info['contract'], str(file))
        shape = DataShape(**{**info['shape'], 'tasks': tuple(info['shape'].get('tasks', ()))})
    except FileNotFoundError as error:
        raise ConfigError(
            f'{root}: no training run here ({RUN_FILE} is missing); `ssl_vla train` makes one'
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'{file}: broken ({error}); train again into a new directory') from error
    return Run(root, config, contract, shape, info)


def require_own(path: Path) -> None:
    """
    See that a directory holds a run, or nothing.

    Raises
    ------
    ConfigError
        If it holds something else, such as a dataset.

    """
    if (path / RUN_FILE).exists() or not path.is_dir():
        return
    # Names with a dot are of a beginning that was interrupted.
    others = sorted(item.name for item in path.iterdir() if not item.name.startswith('.'))
    if others:
        more = f' and {len(others) - 1} more' if len(others) > 1 else ''
        raise ConfigError(f'{path}: holds {others[0]}{more}, and no run; give a new or an empty '
                          'directory as --out')


def begin_run(path: Path, config: TrainConfig, dataset: Dataset, shape: DataShape,
              encoder_digest: str, *, writes: bool = True) -> Run:
    """
    Make a run's directory, or find the same run in it.

    Parameters
    ----------
    path, config, dataset, shape
        Where, what, and on which data.
    encoder_digest
        Of the frozen encoder whose features are trained on; '' if pictures are.
    writes
        False in all but one of several processes: nothing is written then.

    Raises
    ------
    ConfigError
        If the directory holds a run with another configuration or dataset: nothing of it is
        touched.

    """
    path.mkdir(parents=True, exist_ok=True)
    contract = dataset.contract
    wanted = {'config_digest': config_digest(config), 'dataset_digest': dataset.digest(),
              'encoder_digest': encoder_digest}
    if (path / RUN_FILE).exists():
        found = open_run(path)
        for key, value in wanted.items():
            if found.info.get(key) != value:
                what = key.replace('_digest', '')
                raise ConfigError(
                    f'{path / RUN_FILE}: the directory holds a run with another {what} '
                    f'({_difference(found, config, key, value)}); choose another --out, or delete '
                    'it')
        return found
    require_own(path)
    info = {
        'schema_version': 1, 'status': 'started', 'step': 0, **wanted,
        'config': dataclasses.asdict(config), 'contract': contract.to_dict(),
        'shape': dataclasses.asdict(shape), 'git_commit': git_commit(),
        'software': {'torch': torch.__version__}, 'metrics': {}}
    if writes:
        write_json(path / RUN_FILE, info)
    return Run(path, config, contract, shape, info)


def _difference(found: Run, config: TrainConfig, key: str, value: str) -> str:
    """Say what differs: the settings by name, or the digests of data that has no names."""
    if key == 'config_digest':
        old, new = (_flat(dataclasses.asdict(item)) for item in (found.config, config))
        changed = [f'{name} was {old.get(name)!r}, is {new.get(name)!r}'
                   for name in dict.fromkeys([*old, *new])
                   if old.get(name) != new.get(name) and name not in _IDLE]
        if changed:
            more = f', and {len(changed) - 4} more' if len(changed) > 4 else ''
            return ', '.join(changed[:4]) + more
    return f'{key} was {str(found.info.get(key))[:12]}, is {value[:12]}'


def _flat(values: Mapping[str, Any], before: str = '') -> dict[str, Any]:
    """Name settings by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f'{before}{name}.')
        else:
            found[before + name] = value
    return found


def save_model(objective: Objective, path: Path, about: dict[str, Any] | None = None) -> None:
    """
    Write an objective's weights as safetensors, durable and by one rename.

    ``about`` (see ``about_run``) and a SHA-256 go into its metadata; without it the file does
    not open as that of a run.
    """
    state = {name: value.detach().cpu().contiguous().clone()
             for name, value in objective.state_dict().items()}
    write_tensors(state, path, MODEL, about or {})


def warn_of_seen_episodes(config: TrainConfig, dataset: Dataset, held_out: list[int]) -> None:
    """Say so if episodes held out here were not held out from the encoder."""
    if config.features != 'encoder':
        return
    run = open_run(config.encoder)
    if run.info.get('dataset_digest') != dataset.digest():
        return  # other episodes altogether
    seen, _ = split_episodes(
        dataset.num_episodes, run.config.held_out_fraction, run.config.split_seed)
    both = sorted(set(seen) & set(held_out))
    if both:
        warnings.warn(
            f'{len(both)} of the {len(held_out)} held-out episodes (the first is {both[0]}) were '
            f'trained on by the encoder {run.path}: figures on them flatter it; use its '
            f'held_out_fraction ({run.config.held_out_fraction:g}) or less, and its split_seed '
            f'({run.config.split_seed})', stacklevel=3)


@contextmanager
def exclusive(path: Path, *, needed: bool = True) -> Iterator[None]:
    """
    Hold a run's directory alone, if that is needed: of several processes one does it for all.

    Raises
    ------
    ConfigError
        If another process trains in it.

    """
    if not needed:
        yield
        return
    path.mkdir(parents=True, exist_ok=True)
    with (path / '.lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f'{path}: another process is training in this directory; wait for it, or choose '
                'another --out') from error
        yield
