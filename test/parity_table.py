# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What the comparisons with other implementations found, for the table after the tests."""

from __future__ import annotations

import os
import re

from torch import Tensor

#: By test: comparisons, largest difference of values, largest difference of gradients.
_FOUND: dict[str, tuple[int, float, float | None]] = {}
#: Tests that put a mistake in: what agrees before it shows says nothing.
_CONTROLS = re.compile(r'_sees?_')


def relative(mine: Tensor, theirs: Tensor) -> float:
    """Give the largest difference, over the largest value of theirs."""
    apart = float((mine.detach() - theirs.detach()).abs().max())
    return apart / max(float(theirs.detach().abs().max()), 1e-12)


def note(value: float | None = None, gradient: float | None = None) -> None:
    """Keep what one comparison found, under the name of the test that runs."""
    name = os.environ['PYTEST_CURRENT_TEST'].split('::')[-1].rpartition(' ')[0]
    if _CONTROLS.search(name):
        return
    count, values, slopes = _FOUND.get(name, (0, 0.0, None))
    if gradient is not None:
        slopes = max(slopes or 0.0, gradient)
    _FOUND[name] = count + (value is not None), max(values, value or 0.0), slopes


def lines() -> list[str]:
    """Give the table; empty if nothing was compared in this process."""
    if not _FOUND:
        return []
    width = max(map(len, _FOUND))
    return [f'{"":<{width}}  compared     value  gradient'] + [
        f'{name:<{width}}  {count:8}  {value:8.1e}  '
        + ('       -' if gradient is None else f'{gradient:8.1e}')
        for name, (count, value, gradient) in _FOUND.items()]
