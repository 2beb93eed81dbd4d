# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The film strip: each prediction below the picture that came at its time, and no other."""

from __future__ import annotations

import numpy as np
from ssl_vla_ros.runtime.film import FilmStrip

PERIOD_NS = 50_000_000
AHEAD = 4


def pictures(value: float) -> np.ndarray:
    return np.full((2, 8, 8, 3), value, np.uint8)


def fed(film: FilmStrip, ticks: list[int]) -> dict[int, np.ndarray]:
    """Push ticks whose pictures are of their number, and whose predictions are exact + 100."""
    strips = {}
    for tick in ticks:
        strip = film.push((tick + 20) * PERIOD_NS, pictures(tick), pictures(tick + AHEAD + 100))
        if strip is not None:
            strips[tick] = strip
    return strips


def test_each_pair_is_of_one_moment_and_pairs_tile_the_time() -> None:
    film = FilmStrip(AHEAD * 0.05, 0.05, pairs=3)
    strips = fed(film, list(range(20)))
    assert list(strips) == [4, 8, 12, 16]
    last = strips[16]
    # Two cameras, real above predicted with a line between; three pairs from left to right.
    assert last.shape == (4 * 8 + 3, 3 * 8 + 2, 3)
    for place, tick in enumerate((8, 12, 16)):
        column = last[:, place * 9:place * 9 + 8]
        for camera in range(2):
            assert (column[camera * 18:camera * 18 + 8] == tick).all()
            assert (column[camera * 18 + 9:camera * 18 + 17] == tick + 100).all()
    first = strips[4]
    assert (first[:, :18] == 0).all() and (first[0, 18:] == 4).all()


def test_ticks_that_were_passed_over_leave_no_wrong_pair() -> None:
    film = FilmStrip(AHEAD * 0.05, 0.05, pairs=1)
    for tick, strip in fed(film, [0, 1, 3, 5, 6, 7, 11, 13, 17]).items():
        assert (strip[:8] == tick).all() and (strip[9:17] == tick + 100).all()
    assert fed(film, [18, 19, 20, 21])          # 17 foresaw 21


def test_a_jump_or_a_step_back_forgets_what_was_foreseen() -> None:
    for begin in (140, 5, 0):
        film = FilmStrip(AHEAD * 0.05, 0.05)
        fed(film, list(range(20, 30)))
        strips = fed(film, list(range(begin, begin + 6)))
        assert list(strips) == [begin + 4]


def test_no_prediction_makes_no_pair_and_other_sizes_are_fitted() -> None:
    film = FilmStrip(AHEAD * 0.05, 0.05)
    assert all(film.push(tick * PERIOD_NS, pictures(1), None) is None for tick in range(1, 12))
    film.push(12 * PERIOD_NS, np.full((1, 32, 32, 3), 7, np.uint8), np.full((1, 8, 4, 3), 9, 'u1'))
    strip = film.push(16 * PERIOD_NS, np.full((1, 32, 32, 3), 7, np.uint8), None)
    assert strip is not None and strip.shape == (17, 6 * 5 - 1, 3)
    assert (strip[:8, -4:] == 7).all() and (strip[9:, -4:] == 9).all()
