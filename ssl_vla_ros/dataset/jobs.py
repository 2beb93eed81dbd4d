# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a dataset is made of before it is one: episodes that can be loaded one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode


@dataclass(frozen=True)
class LoadedEpisode:
    """
    One episode, ready to be written.

    Attributes
    ----------
    aligned
        Its rows; pictures are read while they are iterated, never held all at once.
    task
        What was done, in words.
    success
        Whether it was achieved; None if nobody said.
    notes : tuple of str
        What is odd about the source and does not hinder.
    status
        A recorded episode's own status (``complete``, ``recovered`` …), else ''.
    exact
        Whether what its publishers sent is known for every topic.

    """

    aligned: AlignedEpisode
    task: str
    success: bool | None = None
    notes: tuple[str, ...] = ()
    status: str = ''
    exact: bool = True


class EpisodeJob(Protocol):
    """
    An episode of a source that is not loaded yet; small, because it is sent to other processes.

    Attributes
    ----------
    name
        For people, unique in its source: ``session/episode_000003``, ``episode 3``.

    """

    @property
    def name(self) -> str:
        """Give the name."""
        ...

    def fingerprint(self) -> str:
        """
        SHA-256 of everything in the source that the episode's rows and pictures come from.

        Equal fingerprints under one contract mean equal episodes: a build takes what it has
        already. Sizes and modification times may stand for the content of large files.

        Raises
        ------
        UserError
            If a file is missing or unreadable.

        """
        ...

    def load(self, contract: Contract) -> LoadedEpisode | Sequence[LoadedEpisode]:
        """
        Read the episode; several where it falls into parts.

        Parameters
        ----------
        contract
            The dataset's: which values and pictures, in which order and size.

        Raises
        ------
        UserError
            If the episode must be refused; the message names file, key and value. Iterating over
            the pictures may raise it, too.

        """
        ...
