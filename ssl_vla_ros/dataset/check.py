# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The quality gate over aligned rows: of a dataset of ours or of any source that can be opened.

Rows have lost their messages, so rate, gaps and clocks are only known where the build's report is
beside them; what state, action and pictures say is judged as for a raw bag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract, Stream
from ssl_vla_ros.dataset.align import align_runs
from ssl_vla_ros.dataset.aligned import AlignedEpisode
from ssl_vla_ros.dataset.jobs import EpisodeJob, LoadedEpisode
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.dataset.sources.detect import open_source
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.errors import UserError
from ssl_vla_ros.parallel import each
from ssl_vla_ros.quality.gate import judge_length, judge_pictures, judge_values
from ssl_vla_ros.quality.labels import stream_labels
from ssl_vla_ros.quality.pictures import Pictures, PictureWatch
from ssl_vla_ros.quality.stamps import SECOND
from ssl_vla_ros.quality.thresholds import check_labels, Thresholds
from ssl_vla_ros.quality.values import holds_positions, Numbers
from ssl_vla_ros.quality.verdict import grade, NOTE, Reason, REFUSED, Verdict


@dataclass(frozen=True)
class DatasetCheck:
    """
    What was found in a dataset.

    Attributes
    ----------
    kind
        The format and its version.
    verdicts
        One an episode, in their order.

    """

    kind: str
    verdicts: tuple[Verdict, ...]


def judge_aligned(aligned: AlignedEpisode, contract: Contract,
                  thresholds: Thresholds | None = None, name: str = '') -> Verdict:
    """
    Judge the rows of one episode, without looking at a picture.

    Parameters
    ----------
    aligned
        The episode.
    contract
        Whose columns its state and action have.
    thresholds
        Where the lines are drawn; the defaults if None.
    name
        The episode, for people.

    """
    return Verdict.of(name, list(_judge_rows(aligned, contract, thresholds or Thresholds())))


def _judge_rows(aligned: AlignedEpisode, contract: Contract, thresholds: Thresholds
                ) -> Iterator[Reason]:
    ticks = aligned.ticks_ns
    rows = len(ticks)
    seconds = float((ticks[-1] - ticks[0]) / SECOND) if rows else 0.0
    yield from judge_length(seconds, rows, thresholds)
    if rows < 2:
        return
    if (backward := int((np.diff(ticks) <= 0).sum())):
        yield Reason(
            'order', REFUSED, '', backward / rows, 0.0,
            f'{backward} of {rows} rows do not follow the row before them in time: the source '
            'mixes episodes or its clock was set; mend it and import again')
        return
    yield from judge_values(numbers_of(aligned, contract), contract, thresholds)
    yield from _judge_skews(aligned, contract, thresholds)


def numbers_of(aligned: AlignedEpisode, contract: Contract) -> list[Numbers]:
    """Give the streams of state and action with their values."""
    found = []
    for kind, values in (('state', aligned.state), ('action', aligned.action)):
        begin = 0
        for label, part, stream in stream_labels(contract):
            if part != kind or not isinstance(stream, Stream):
                continue
            end = begin + len(stream.columns)
            found.append(Numbers(
                label, kind, stream.columns, aligned.ticks_ns,
                values[:, begin:end].astype(np.float64), holds_positions(stream)))
            begin = end
    return found


def _judge_skews(aligned: AlignedEpisode, contract: Contract, thresholds: Thresholds
                 ) -> Iterator[Reason]:
    bound = np.float32(contract.sync.max_skew_s)
    for label, kind, _ in stream_labels(contract):
        skew = aligned.skew_s.get(label)
        if skew is None or kind == 'evaluation':
            continue
        known = skew[np.isfinite(skew)]
        if not len(known):
            # A source without stamps has no skews: they are unknown, not bad.
            continue
        share = float((known > bound).mean())
        if found := grade(share, thresholds.skew_doubtful,
                          math.nextafter(max(contract.sync.max_flagged_fraction,
                                             thresholds.skew_doubtful), 2.0)):
            yield Reason(
                'skew', found[0], label, share, found[1],
                f'{share:.1%} of the rows have a sample over {bound:g} s away (up to '
                f'{float(known.max()):.2f} s): record again, or leave the flagged rows out')


def check_dataset(path: Path, thresholds: Thresholds, *, workers: int = 1,
                  options: ImportOptions | None = None,
                  told: Callable[[int, int, Verdict], None] | None = None) -> DatasetCheck:
    """
    Judge every episode of a dataset, rows and pictures.

    Parameters
    ----------
    path
        A dataset of ours, or anything that ``dataset import`` reads.
    thresholds
        Where the lines are drawn.
    workers
        Processes that work at the same time.
    options
        What the files do not say.
    told
        Called with how many episodes are done, how many there are, and the latest verdict.

    Raises
    ------
    DatasetError
        If the dataset as a whole cannot be opened.
    ConfigError
        If the thresholds name a stream that it has not.

    """
    source = open_source(path, options or ImportOptions())
    check_labels(thresholds, tuple(label for label, _, _ in stream_labels(source.contract)))
    found: dict[int, list[Verdict]] = {}
    judge = partial(check_job, contract=source.contract, thresholds=thresholds)
    for place, verdicts in each(judge, source.jobs, workers):
        found[place] = verdicts
        if told is not None:
            told(len(found), len(source.jobs), verdicts[0])
    refused = [Verdict.of(name, [_unreadable(why)]) for name, why in source.refused]
    return DatasetCheck(source.kind, (
        *(item for place in range(len(found)) for item in found[place]), *refused))


def check_job(job: EpisodeJob, contract: Contract, thresholds: Thresholds) -> list[Verdict]:
    """Judge one episode that is not loaded yet, or each part that it falls into."""
    try:
        loaded = job.load(contract)
        parts = [loaded] if isinstance(loaded, LoadedEpisode) else list(loaded)
        return [Verdict.of(
            job.name + (f' part {number} of {len(parts)}' if len(parts) > 1 else ''),
            list(_judge_loaded(part, contract, thresholds)))
            for number, part in enumerate(parts, 1)]
    except UserError as error:
        return [Verdict.of(job.name, [_unreadable(str(error))])]


def _judge_loaded(loaded: LoadedEpisode, contract: Contract, thresholds: Thresholds
                  ) -> Iterator[Reason]:
    aligned = loaded.aligned
    yield from _judge_rows(aligned, contract, thresholds)
    for text in loaded.notes:
        yield Reason('source', NOTE, '', None, None, text)
    watched = [_watch(f'image.{name}', aligned.ticks_ns, pictures, thresholds)
               for name, pictures in aligned.pictures.items()]
    yield from judge_pictures(watched, numbers_of(aligned, contract), contract, thresholds)


def _watch(label: str, ticks: NDArray[np.int64], pictures: Iterable[NDArray[np.uint8]],
           thresholds: Thresholds) -> Pictures:
    # A video's codec changes equal pictures a little; those of a bag came as they are.
    watch = PictureWatch(label, thresholds.video_same)
    for stamp, picture in zip(ticks.tolist(), pictures, strict=False):
        watch.take(stamp, picture)
    return watch.result()


def _unreadable(why: str) -> Reason:
    return Reason('unreadable', REFUSED, '', None, None, why)


def with_what_the_build_says(judged: tuple[Path, Verdict]) -> Verdict:
    """
    Add to the verdict on a recorded episode that the build would refuse it, if so.

    The gate looks at one stream after the other; rows need all of them at the same time. The
    episode and its verdict come as one, for ``parallel.each``.
    """
    path, verdict = judged
    if verdict.refused:
        return verdict
    try:
        episode = Episode.open(path)
        align_runs(episode, episode.contract)
    except UserError as error:
        words = str(error).removeprefix(f'{path}: ')
        return Verdict.of(verdict.name, [*verdict.reasons, Reason(
            'build', REFUSED, '', None, None, words)])
    return verdict
