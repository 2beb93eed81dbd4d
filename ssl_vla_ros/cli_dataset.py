# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The subcommands of ``ssl_vla dataset``: build, import, info, check, stats, merge, split."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TYPE_CHECKING

from ssl_vla_ros.cli_episodes import check
from ssl_vla_ros.cli_text import AddCommand, numbers, positive, progress_bar, table

if TYPE_CHECKING:
    from ssl_vla_ros.dataset.sources.base import ImportOptions

_NEXT = '\nNext: ssl_vla train --config config/train/keypoints.yaml --data {} --out RUN'


def add_dataset_commands(command: AddCommand, groups: Any) -> None:
    """Add the group ``dataset`` to the command line."""
    dataset = groups.add_parser('dataset', help='aligned datasets').add_subparsers(
        dest='action', required=True, metavar='ACTION')
    part = command(dataset, 'build', _build, 'align a session to a LeRobotDataset v3.0, or bring '
                   'one up to date')
    part.add_argument('session', type=Path)
    part.add_argument('out', type=Path)
    part.add_argument('--contract', type=Path, help="another contract than the episodes' own")
    part.add_argument('--task', default='', help='what was done, for episodes without a task')
    _add_writing(part)
    part = command(dataset, 'import', _import, 'convert a recording of another format')
    part.add_argument('source', type=Path, help='LeRobot v2.0, v2.1, v3.0; rosbag2; RLDS; HDF5 of '
                      'robomimic or ALOHA; videos; npz')
    part.add_argument('out', type=Path)
    _add_import_options(part)
    _add_writing(part)
    part = command(dataset, 'info', _info, 'what a dataset holds')
    part.add_argument('dataset', type=Path)
    part.add_argument('--verify', action='store_true', help='compute every digest anew')
    part = command(dataset, 'check', _check, 'a verdict an episode, with reasons; status 1 if any '
                   'is refused')
    part.add_argument('place', type=Path, metavar='DATASET',
                      help='of ours, or of any format that import reads')
    _add_import_options(part)
    part.add_argument('--thresholds', type=Path, metavar='FILE',
                      help='YAML with other bounds (docs/quality.md)')
    part.add_argument('--json', type=Path, metavar='FILE', help='write the verdicts there, too')
    part.add_argument('--workers', type=positive,
                      help='processes at the same time; default: one a processor core')
    part = command(dataset, 'stats', _stats, 'exact statistics of every feature')
    part.add_argument('dataset', type=Path)
    part.add_argument('--json', type=Path, help='write them to a file, too')
    part = command(dataset, 'merge', _merge, 'one dataset of several')
    part.add_argument('out', type=Path)
    part.add_argument('datasets', type=Path, nargs='+')
    part.add_argument('--overwrite', action='store_true', help='replace a dataset at OUT')
    part = command(dataset, 'split', _split, 'several datasets of one, by whole episodes')
    part.add_argument('dataset', type=Path)
    part.add_argument('out', type=Path, help='directory for the parts')
    part.add_argument('--held-out', type=float, help='fraction of episodes for OUT/held_out; the '
                      'others become OUT/train')
    part.add_argument('--seed', type=int, default=0, help='which division of --held-out')
    part.add_argument('--episodes', action='append', metavar='NAME=3,5-9', default=[],
                      help='episodes of OUT/NAME; may be given several times')
    part.add_argument('--overwrite', action='store_true', help='replace datasets that are there')


def _add_import_options(part: argparse.ArgumentParser) -> None:
    part.add_argument('--contract', type=Path, help='robot contract; needed for bags')
    part.add_argument('--rate', type=positive, help='rows a second, where the source has no rate')
    part.add_argument('--task', default='', help='what was done, for episodes without words')
    part.add_argument('--robot', default='', help='name of the robot, where there is none')


def import_options(options: argparse.Namespace) -> ImportOptions:
    """Give what a user says of a foreign source."""
    from ssl_vla_ros.contract import load_contract
    from ssl_vla_ros.dataset.sources.base import ImportOptions
    from ssl_vla_ros.places import own_file
    contract = load_contract(own_file(options.contract)) if options.contract else None
    return ImportOptions(contract=contract, rate_hz=options.rate, task=options.task,
                         robot=options.robot)


def _add_writing(part: argparse.ArgumentParser) -> None:
    part.add_argument('--overwrite', action='store_true',
                      help='replace a dataset at OUT by one that is made from nothing')
    part.add_argument('--workers', type=positive,
                      help='processes at the same time; default: one a processor core')
    part.add_argument('--keep-constant', action='store_true',
                      help='take dead recordings, too: state or action never changes')
    part.add_argument('--encoder', default='auto', help='of the videos: auto (hardware where it '
                      'works), libx264, h264_nvenc, h264_qsv, h264_videotoolbox')


def _workers(options: argparse.Namespace) -> int:
    from ssl_vla_ros.parallel import default_workers
    return int(options.workers or default_workers())


def _build(options: argparse.Namespace) -> int:
    from ssl_vla_ros.contract import load_contract
    from ssl_vla_ros.dataset.build import build_dataset
    from ssl_vla_ros.places import own_file
    contract = load_contract(own_file(options.contract)) if options.contract else None
    report = build_dataset(
        options.session, options.out, contract, progress=progress_bar,
        overwrite=options.overwrite, task=options.task, workers=_workers(options),
        encoder=options.encoder, keep_constant=options.keep_constant)
    print(report.text())
    print(_NEXT.format(options.out))
    return 1 if report.dropped else 0


def _import(options: argparse.Namespace) -> int:
    from ssl_vla_ros.dataset.importing import import_dataset
    report = import_dataset(
        options.source, options.out, progress=progress_bar, overwrite=options.overwrite,
        options=import_options(options), workers=_workers(options), encoder=options.encoder,
        keep_constant=options.keep_constant)
    print(report.text())
    print(_NEXT.format(options.out))
    return 0


def _check(options: argparse.Namespace) -> int:
    options.import_options = import_options(options)
    return check(options)


def _info(options: argparse.Namespace) -> int:
    from ssl_vla_ros.dataset.aligned import unstamped_labels
    from ssl_vla_ros.dataset.lerobot_v3 import Dataset
    dataset = Dataset.open(options.dataset)
    contract = dataset.contract
    known = [value for value in dataset.success if value is not None]
    print(f'{options.dataset}: robot {contract.robot}, {dataset.num_episodes} episodes, '
          f'{dataset.num_rows} rows at {dataset.fps} Hz '
          f'({dataset.num_rows / dataset.fps / 60:.1f} min)')
    for key, value in dataset.origin.items():
        print(f'  {key}: {value}')
    for camera in contract.cameras:
        print(f'  camera {camera.name}: {camera.height}x{camera.width}')
    print(f'  state  ({len(contract.state_names)}): {", ".join(contract.state_names)}')
    print(f'  action ({len(contract.action_names)}): {", ".join(contract.action_names)}')
    print(f'  success: {sum(known)} of {len(known)} marked episodes')
    flagged = sum(int(entry['flagged']) for entry in dataset.episodes)
    print(f'  flagged rows (a sample farther off than the contract allows): {flagged}')
    unstamped = unstamped_labels(contract)
    if unstamped:
        print(f'  unstamped rows (a value placed by its receive time): {dataset.num_rows}, for '
              f'{", ".join(unstamped)}')
    for task in dataset.tasks:
        print(f'  task: {task} ({dataset.episode_tasks.count(task)} episodes)')
    print(f'  digest: {dataset.digest()}')
    if options.verify:
        dataset.verify()
        print('  every digest is as written')
    return 0


def _stats(options: argparse.Namespace) -> int:
    from ssl_vla_ros.dataset import layout
    from ssl_vla_ros.dataset.files import read_json, write_json
    from ssl_vla_ros.dataset.lerobot_v3 import Dataset
    dataset = Dataset.open(options.dataset)
    stats = read_json(dataset.path / layout.STATS)
    columns = ('min', 'q01', 'q10', 'q50', 'q90', 'q99', 'max', 'mean', 'std')
    names = {'observation.state': dataset.contract.state_names,
             'action': dataset.contract.action_names,
             'observation.evaluation': dataset.contract.evaluation_names}
    names |= {layout.video_key(camera): ('red', 'green', 'blue')
              for camera in dataset.camera_names}
    rows = []
    for feature, values in names.items():
        if feature in stats:
            for place, name in enumerate(values):
                rows.append([f'{feature} {name}', *(
                    f'{_flat(stats[feature][key])[place]:.4g}' for key in columns)])
    print(table(['feature', *columns], rows))
    if options.json:
        write_json(options.json, stats)
    return 0


def _flat(values: Any) -> list[float]:
    """Numbers of a feature's statistic, whatever LeRobot nests them in."""
    if not isinstance(values, list):
        return [float(values)]
    return [number for item in values for number in _flat(item)]


def _merge(options: argparse.Namespace) -> int:
    from ssl_vla_ros.dataset.combine import merge_datasets
    made = merge_datasets(
        options.datasets, options.out, progress_bar, overwrite=options.overwrite)
    print(f'{made.path}: {made.num_episodes} episodes, {made.num_rows} rows of '
          f'{len(options.datasets)} datasets')
    print(_NEXT.format(options.out))
    return 0


def _split(options: argparse.Namespace) -> int:
    from ssl_vla_ros.dataset.combine import split_dataset
    from ssl_vla_ros.dataset.lerobot_v3 import Dataset
    from ssl_vla_ros.dataset.splits import split_episodes
    from ssl_vla_ros.errors import DatasetError
    if (options.held_out is None) == (not options.episodes):
        raise DatasetError('give either --held-out FRACTION or --episodes NAME=NUMBERS')
    parts: dict[Path, list[int]] = {}
    if options.held_out is not None:
        count = Dataset.open(options.dataset).num_episodes
        train, held_out = split_episodes(count, options.held_out, options.seed)
        parts = {options.out / 'train': train, options.out / 'held_out': held_out}
    for text in options.episodes:
        name, _, wanted = text.partition('=')
        if not name or '/' in name or not wanted:
            raise DatasetError(f'--episodes {text}: must be NAME=3,5-9')
        if options.out / name in parts:
            raise DatasetError(f'--episodes {text}: the name {name} is given twice')
        parts[options.out / name] = numbers(wanted)
    for made in split_dataset(options.dataset, parts, progress_bar, overwrite=options.overwrite):
        print(f'{made.path}: {made.num_episodes} episodes, {made.num_rows} rows')
    return 0
