# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Importing what others recorded: a source of any known format becomes a dataset of ours.

The contract is the user's, or made up from what the source declares: topics under ``imported/``,
no limits, so that it records nothing and runs no policy until somebody writes a real one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.encoders import AUTO
from ssl_vla_ros.dataset.files import Progress, restore_replaced
from ssl_vla_ros.dataset.produce import produce, Produced
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.detect import open_source


@dataclass(frozen=True)
class ImportReport:
    """
    What an import found, kept and refused.

    Attributes
    ----------
    kind
        The source's format and version.
    found
        What there is: robot, rate, episodes, cameras with sizes ….
    kept
        Names of the episodes that were imported.
    refused
        Each other episode's name and what is wrong with it.
    problems
        What the source says that is not so, and what is odd; none of it hindered the import.
    left_out
        What the source has and was not imported.
    rows
        Rows of the dataset.
    digest
        Of the dataset that was written.

    """

    source: str
    out: str
    kind: str
    found: dict[str, Any]
    kept: list[str]
    refused: list[tuple[str, str]]
    problems: list[str]
    left_out: list[str]
    rows: int
    digest: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)

    def text(self) -> str:
        """Return the report for people."""
        lines = [f'{self.source}: {self.kind}' + ''.join(
            f', {key} {value}' for key, value in self.found.items())]
        lines += [f'  wrong: {problem}' for problem in self.problems]
        lines += [f'  refused: {name}: {why}' for name, why in self.refused]
        if self.left_out:
            lines.append(f'  not imported: {", ".join(self.left_out)}')
        lines.append(f'kept {len(self.kept)} of {len(self.kept) + len(self.refused)} episodes, '
                     f'{self.rows} rows, in {self.out} ({self.seconds:.1f} s)')
        return '\n'.join(lines)


def import_dataset(source: str | Path, out: str | Path, progress: Progress | None = None, *,
                   options: ImportOptions | None = None, overwrite: bool = False,
                   workers: int = 1, encoder: str = AUTO,
                   keep_constant: bool = False) -> ImportReport:
    """
    Import a source of any format that ``sources.detect`` knows.

    An import that was interrupted goes on where it was.

    Parameters
    ----------
    source
        File or directory; it is not changed.
    out
        The dataset to write; it appears when it is complete.
    progress
        Told after each episode.
    options
        What the source does not say itself.
    overwrite
        Whether an existing dataset in ``out`` may be replaced.
    workers
        Processes that work at the same time.
    encoder
        ``auto``, or one of ``encoders.OPTIONS``.
    keep_constant
        Take episodes, too, whose state or action never changes: dead recordings.

    Raises
    ------
    DatasetError
        If the source cannot be used at all, or no episode of it can, or ``out`` exists.

    """
    began = time.monotonic()
    target = Path(out)
    restore_replaced(target)
    layout.check_target(target, overwrite=overwrite)
    opened = open_source(Path(source), options or ImportOptions())
    done = produce(
        target, opened.contract, opened.jobs, source=str(source),
        origin={'imported': str(Path(source).resolve()), 'kind': opened.kind},
        progress=progress, workers=workers, encoder=encoder, keep_constant=keep_constant,
        refused=opened.refused)
    _note(opened, done)
    kept = [episode for result in done.results for episode in result.episodes]
    return ImportReport(
        source=str(source), out=str(target), kind=opened.kind, found=dict(opened.found),
        kept=[str(episode.info['source']) for episode in kept],
        refused=[*opened.refused, *((result.name, result.reason) for result in done.results
                                    if result.reason)],
        problems=opened.problems.lines(), left_out=list(opened.left_out),
        rows=sum(episode.length for episode in kept), digest=done.digest,
        seconds=time.monotonic() - began)


def _note(opened: Source, done: Produced) -> None:
    """Add what was found while loading, and values that never change in the whole source."""
    every: dict[str, list[NDArray[Any]]] = {'observation.state': [], 'action': []}
    for number, result in enumerate(done.results):
        for episode in result.episodes:
            for text in episode.info['notes']:
                # By number where the source has nothing but numbers, else by name.
                if opened.refused:
                    opened.problems.add(f'{result.name}: {text}')
                else:
                    opened.problems.add(text, number)
            for name, spans in every.items():
                if name in episode.columns:
                    values = episode.columns[name]
                    spans.append(np.stack([values.min(axis=0), values.max(axis=0)]))
    for name, names in (('observation.state', opened.contract.state_names),
                        ('action', opened.contract.action_names)):
        if every[name]:
            found = np.concatenate(every[name])
            still = found.max(axis=0) - found.min(axis=0) <= 1e-9
            if still.any() and not still.all():  # of dead ones each episode says it
                which = ', '.join(item for item, flag in zip(names, still, strict=True) if flag)
                opened.problems.add(f'{name}: {int(still.sum())} of {len(names)} values never '
                                    f'change: {which}')
