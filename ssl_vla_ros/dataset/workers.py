# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What one process does with one job: it becomes a staged episode, or is refused.

Every episode is a unit: a job that fails refuses its episode and no other, a build that is killed
finds what was staged when it is run again, and the order in which processes end changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
import errno
import os
from pathlib import Path
import shutil
import time
import traceback

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.check import judge_aligned
from ssl_vla_ros.dataset.jobs import EpisodeJob, LoadedEpisode
from ssl_vla_ros.dataset.staging import stage_episode
from ssl_vla_ros.errors import DatasetError, UserError
from ssl_vla_ros.quality.verdict import REFUSED


#: What ends the whole build: there is no room left, or nothing can be written any more.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Task:
    """One job to be staged: what, as which directory, with what."""

    job: EpisodeJob
    contract: Contract
    place: Path
    key: str
    encoder: str
    keep_constant: bool = False


@dataclass(frozen=True)
class Staged:
    """
    How it went: why the episode is refused, '' if it is not.

    ``passing`` says that the reason lies in the machine or in a file that could not be read, not
    in what was recorded: the same episode may be good the next time.
    """

    reason: str = ''
    passing: bool = False


def stage(task: Task) -> Staged:
    """Stage one episode."""
    part = task.place.with_name(f'.{task.place.name}.{os.getpid()}')
    shutil.rmtree(part, ignore_errors=True)
    try:
        began = time.monotonic()
        found = task.job.load(task.contract)
        load_s = time.monotonic() - began
        parts = [found] if isinstance(found, LoadedEpisode) else list(found)
        for number, loaded in enumerate(parts):
            name = task.job.name + (f' part {number + 1} of {len(parts)}'
                                    if len(parts) > 1 else '')
            dead = _dead(loaded, task.contract, name)
            if dead and not task.keep_constant:
                raise DatasetError(dead)
            stage_episode(part / f'{number:06d}', loaded, task.contract, key=task.key,
                          source=name, encoder=task.encoder, load_s=load_s / len(parts),
                          constant=dead)
        part.rename(task.place)
    except UserError as error:
        return Staged(str(error))
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            raise  # every other episode would fail as well, and none of them is to blame
        return Staged(f'{task.job.name}: cannot be read or written: {error}', passing=True)
    except MemoryError:
        return Staged(f'{task.job.name}: needs more memory than there is; try fewer --workers',
                      passing=True)
    except Exception as error:  # noqa: B902 - one bad file must not cost the other episodes
        return Staged(f'{task.job.name}: {_unforeseen(error)}', passing=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Staged()


def _unforeseen(error: Exception) -> str:
    """Say where an error came from that no check foresaw: a damaged file, or our mistake."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (f'unforeseen {type(error).__name__} at {Path(last.filename).name}:{last.lineno}: '
            f'{error}; the file may be damaged in a way that nobody checks; please report it')


def _dead(loaded: LoadedEpisode, contract: Contract, name: str) -> str:
    """Say how state or action never change, if so: nothing was recorded there."""
    verdict = judge_aligned(loaded.aligned, contract, name=name)
    dead = [reason.text for reason in verdict.reasons
            if reason.key == 'constant' and reason.severity == REFUSED]
    return f'{name}: {"; ".join(dead)} (--keep-constant takes it all the same)' if dead else ''
