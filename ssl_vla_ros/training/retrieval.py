# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Whether features tell how far a task has come: nearest neighbours in other episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

#: Fewer rows of an episode say nothing about an order; more pairs of episodes than these are
#: thinned evenly.
_FEWEST, _PAIRS = 3, 2000


def temporal_retrieval(features: Array, episodes: Rows, rows: Rows,
                       tasks: Sequence[str] | None = None) -> float:
    """
    Kendall's tau of the alignment of episodes by nearest neighbours.

    For each ordered pair of episodes of one task, every row of the first is given its nearest row
    (Euclidean) of the second. Tau compares the order of the rows with the order of what was found:
    1 if time runs alike in both, −1 if it runs backwards. The result is the mean over pairs. It
    is tau-b, which allows for rows that find the same neighbour.

    Features that know nothing of time give 0, the level of chance. A pair in which all rows find
    the same neighbour has no tau; it counts as 0 here, because leaving it out, as the authors'
    code does, would hide features that have collapsed.

    Source: "Temporal Cycle-Consistency Learning" (Dwibedi et al., 2019), section 4; the distance
    and tau-b are those of its code. Distances between values of different units mean something
    only if the caller has standardised them.

    Parameters
    ----------
    features
        (N, D).
    episodes
        (N,) episode of each row.
    rows
        (M,) rows to use, of held-out episodes, in the order of time within each.
    tasks
        (N,) task of each row, constant in an episode; None if there is one only.

    Returns
    -------
    float
        −1 … 1; NaN if no two episodes of one task have three rows or more.

    """
    groups = [rows[episodes[rows] == number] for number in np.unique(episodes[rows])]
    groups = [group for group in groups if len(group) >= _FEWEST]
    pairs = [(first, second) for first in range(len(groups)) for second in range(len(groups))
             if first != second and (
                 tasks is None or tasks[groups[first][0]] == tasks[groups[second][0]])]
    if not pairs:
        return float('nan')
    if len(pairs) > _PAIRS:
        pairs = [pairs[place] for place in np.linspace(0, len(pairs) - 1, _PAIRS).astype(int)]
    used = np.concatenate(groups)
    ends = np.cumsum([len(group) for group in groups])
    # Rounding grows with the distance from the origin.
    centred = features[used] - features[used].mean(axis=0)
    squares = np.square(centred).sum(axis=1)
    taus, block, of = [], squares[None], -1
    for first, second in pairs:
        if first != of:
            of, own = first, centred[ends[first] - len(groups[first]):ends[first]]
            block = squares - 2.0 * (own @ centred.T)
        taus.append(_tau(block[:, ends[second] - len(groups[second]):ends[second]].argmin(axis=1)))
    return float(np.mean(taus))


def _tau(found: NDArray[np.intp]) -> float:
    """Kendall's tau-b of 0, 1, 2 … and ``found``; 0 where all of ``found`` are the same."""
    signs = np.triu(np.sign(found[None, :] - found[:, None]), 1)
    untied = np.count_nonzero(signs)
    all_pairs = len(found) * (len(found) - 1) / 2
    return float(signs.sum() / np.sqrt(all_pairs * untied)) if untied else 0.0
