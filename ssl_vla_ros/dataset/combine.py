# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets out of datasets: several become one, one becomes several, always by whole episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
import shutil

from ssl_vla_ros.contract import Contract, require_compatible
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.assemble import assemble
from ssl_vla_ros.dataset.files import building, finish, Progress, restore_replaced, tell
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.reuse import dataset_episodes
from ssl_vla_ros.dataset.staging import StagedEpisode
from ssl_vla_ros.errors import DatasetError


def merge_datasets(sources: Sequence[Path], out: Path, progress: Progress | None = None, *,
                   overwrite: bool = False) -> Dataset:
    """
    Write one dataset with the episodes of several, in their order.

    Parameters
    ----------
    sources
        At least two datasets of ours with the same cameras, sizes, state, action and rate.
    out
        The dataset to write; the first source's contract is its own.
    progress
        Told after each source.
    overwrite
        Whether an existing dataset in ``out`` may be replaced.

    Raises
    ------
    DatasetError, ContractError
        If they do not fit, one was changed after it was written, or ``out`` exists.

    """
    if len(sources) < 2:
        raise DatasetError('merge needs at least two datasets')
    _check_out(out, sources, overwrite)
    opened = [Dataset.open(path) for path in sources]
    first = opened[0].contract
    episodes: list[StagedEpisode] = []
    for done, dataset in enumerate(opened, 1):
        _require_equal(first, dataset)
        episodes += dataset_episodes(dataset)
        tell(progress, done, len(opened), f'merge: {dataset.path}')
    _write(out, first, episodes, {'merged': ' '.join(str(path.resolve()) for path in sources)},
           overwrite)
    return Dataset.open(out)


def split_dataset(source: Path, parts: Mapping[Path, Sequence[int]],
                  progress: Progress | None = None, *, overwrite: bool = False) -> list[Dataset]:
    """
    Write datasets of some of a dataset's episodes each.

    Parameters
    ----------
    source
        A dataset of ours; it stays as it is.
    parts
        For each dataset to write the numbers of its episodes.
    progress
        Told after each dataset.
    overwrite
        Whether existing datasets may be replaced.

    Raises
    ------
    DatasetError
        If a part has no episode, or one that there is not, or one that another part has.

    """
    dataset = Dataset.open(source)
    taken: dict[int, Path] = {}
    for out, numbers in parts.items():
        _check_out(out, [source], overwrite)
        if not numbers:
            raise DatasetError(f'{out}: would have no episode; choose another fraction')
        for number in numbers:
            if not 0 <= number < dataset.num_episodes:
                raise DatasetError(
                    f'{source}: there is no episode {number}; it has 0 to '
                    f'{dataset.num_episodes - 1}')
            if number in taken:
                raise DatasetError(
                    f'{source}: episode {number} would be in {taken[number]} and in {out}')
            taken[number] = out
    episodes = dataset_episodes(dataset)
    found = []
    for done, (out, numbers) in enumerate(parts.items(), 1):
        _write(out, dataset.contract, [episodes[number] for number in numbers],
               {'split_from': str(source.resolve())}, overwrite)
        found.append(Dataset.open(out))
        tell(progress, done, len(parts), f'split: {out}')
    return found


def _check_out(out: Path, sources: Sequence[Path], overwrite: bool) -> None:
    restore_replaced(out)
    layout.check_target(out, overwrite=overwrite)
    for path in sources:
        if out.resolve() == path.resolve():
            raise DatasetError(f'{out}: is a source, too; choose another output directory')


def _require_equal(first: Contract, dataset: Dataset) -> None:
    require_compatible(dataset.contract, first, str(dataset.path))
    for camera, other in zip(first.cameras, dataset.contract.cameras, strict=True):
        if (camera.height, camera.width) != (other.height, other.width):
            raise DatasetError(
                f'{dataset.path}: camera {other.name} is {other.height}x{other.width}, in '
                f'{first.source} {camera.height}x{camera.width}; build one of them anew')
    ours, theirs = (list(layout.describe_features(contract, contract.rate_hz))
                    for contract in (first, dataset.contract))
    if ours != theirs:
        odd = sorted(set(ours) ^ set(theirs))
        raise DatasetError(
            f'{dataset.path}: the columns {", ".join(odd)} are in only one of it and '
            f'{first.source}; build one of them anew with the contract of the other')


def _write(out: Path, contract: Contract, episodes: Sequence[StagedEpisode],
           origin: Mapping[str, str], overwrite: bool) -> None:
    with building(out, ('dataset', *layout.TOP_LEVEL)) as part:
        assemble(part / 'dataset', contract, episodes, origin)
        finish(part / 'dataset', out, replace=overwrite)
        shutil.rmtree(part)
