# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Writing a LeRobotDataset v3.0 from a program's own episodes, one at a time."""

from __future__ import annotations

from pathlib import Path
import shutil

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode
from ssl_vla_ros.dataset.assemble import assemble
from ssl_vla_ros.dataset.encoders import SOFTWARE
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.staging import stage_episode, StagedEpisode
from ssl_vla_ros.errors import DatasetError

_STAGED = '.staged'


class DatasetWriter:
    """
    Write a dataset into a directory of the caller's, who also makes it appear at once.

    Parameters
    ----------
    out
        An existing or new directory.
    contract
        Which robot; its digest becomes part of the dataset's.
    fps
        Rows a second: the contract's rate.
    encoder
        One of ``encoders.OPTIONS``.

    Raises
    ------
    DatasetError
        If ``fps`` is not the contract's rate, or a camera's size cannot be stored.

    """

    def __init__(self, out: Path, contract: Contract, fps: int, encoder: str = SOFTWARE) -> None:
        if fps != contract.rate_hz:
            raise DatasetError(
                f'{out}: fps is {fps}, must be the rate_hz of {contract.source}: '
                f'{contract.rate_hz}')
        check_sizes(contract)
        self.out = out
        self.contract = contract
        self._encoder = encoder
        self._episodes: list[StagedEpisode] = []
        shutil.rmtree(out / _STAGED, ignore_errors=True)

    def add_episode(self, aligned: AlignedEpisode, task: str, success: bool | None,
                    source: str) -> int:
        """
        Write one episode.

        Parameters
        ----------
        aligned
            The episode; pictures in the contract's size.
        task
            What was done, in words.
        success
            Whether it was achieved; None if nobody said.
        source
            Where the episode comes from, for people.

        Returns
        -------
        int
            The episode's index.

        Raises
        ------
        DatasetError
            If the episode does not fit the contract or a video does not come back whole. Nothing
            of the episode stays then.

        """
        number = len(self._episodes)
        self._episodes.append(stage_episode(
            self.out / _STAGED / f'{number:06d}', LoadedEpisode(aligned, task, success),
            self.contract, key='', source=source, encoder=self._encoder))
        return number

    def finish(self) -> str:
        """
        Write what concerns all episodes, ``info.json`` last.

        Returns
        -------
        str
            The dataset's digest.

        Raises
        ------
        DatasetError
            If there is no episode.

        """
        digest = assemble(self.out, self.contract, self._episodes)
        shutil.rmtree(self.out / _STAGED)
        return digest


def check_sizes(contract: Contract) -> None:
    """
    Refuse cameras whose pictures no video can hold.

    Raises
    ------
    DatasetError
        Naming the camera.

    """
    for camera in contract.cameras:
        if camera.height % 2 or camera.width % 2:
            raise DatasetError(
                f'{contract.source}: cameras.{camera.name} is '
                f'{camera.height}x{camera.width}; a video needs an even height and width')
