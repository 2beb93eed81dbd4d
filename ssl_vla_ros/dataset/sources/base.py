# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What every source of a foreign format gives, and what a user may say about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.jobs import EpisodeJob
from ssl_vla_ros.dataset.notes import Notes

#: Files that are taken for videos.
VIDEO_SUFFIXES = frozenset(('.mp4', '.mov', '.webm', '.avi', '.mkv', '.gif'))


@dataclass(frozen=True)
class ImportOptions:
    """
    What a user may say that the files do not.

    Attributes
    ----------
    contract
        Robot contract; needed where messages have to be chosen (bags).
    rate_hz
        Rows a second; needed where the source has no rate of its own.
    task
        What was done, for episodes without words of their own.
    robot
        Name of the robot, where the source has none.

    """

    contract: Contract | None = None
    rate_hz: int | None = None
    task: str = ''
    robot: str = ''


@dataclass
class Source:
    """
    An opened source.

    Attributes
    ----------
    kind
        The format and its version, for people: ``LeRobot v2.1``.
    path
        The user's file or directory; it is never changed.
    contract
        Which cameras, state and action the episodes have; made up where the user gave none
        (topics under ``imported/``, no limits: it records nothing and runs no policy).
    jobs
        The episodes that may be loaded, in their order.
    found
        What there is, for the report: robot, rate, episodes, cameras with sizes …
    refused
        Episodes that are known to be unusable without loading them: name and reason.
    problems
        What the source says that is not so; none of it hinders.
    left_out
        What the source has and a dataset of ours has no place for.

    """

    kind: str
    path: Path
    contract: Contract
    jobs: Sequence[EpisodeJob]
    found: Mapping[str, Any] = field(default_factory=dict)
    refused: Sequence[tuple[str, str]] = ()
    problems: Notes = field(default_factory=Notes)
    left_out: Sequence[str] = ()
