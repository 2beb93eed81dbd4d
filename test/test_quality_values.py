# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The parts of the gate on arrays: stamps, motion, switches, jumps, lag, verdicts."""

from __future__ import annotations

from hypothesis import given, strategies as st
import numpy as np
import pytest

from ssl_vla_ros.quality.lag import check_lag, command_lag, lag_curve
from ssl_vla_ros.quality.motion import check_idle, Motion
from ssl_vla_ros.quality.stamps import distance_s, rhythm, SECOND, split_rising
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.values import check_constant, check_finite, is_switch, Numbers
from ssl_vla_ros.quality.verdict import grade, Reason, Verdict

LIMITS = Thresholds()


def numbers(values: object, rate_hz: float = 20.0, kind: str = 'state', positions: bool = True
            ) -> Numbers:
    """Make a stream of evenly spaced values."""
    table = np.asarray(values, dtype=np.float64)
    table = table.reshape(len(table), -1)
    stamps = np.arange(len(table), dtype=np.int64) * round(SECOND / rate_hz) + 7
    return Numbers(f'{kind}.x', kind, tuple(f'v{place}' for place in range(table.shape[1])),
                   stamps, table, positions)


@given(st.lists(st.integers(-3, 12)))
def test_rising_stamps_are_what_a_plain_loop_keeps(stamps: list[int]) -> None:
    kept, counts, last = [], {'zero_stamp': 0, 'duplicate_stamp': 0, 'backward_stamp': 0}, 0
    for stamp in stamps:
        kept.append(stamp > last)
        if stamp > last:
            last = stamp
        else:
            counts['zero_stamp' if stamp <= 0 else 'duplicate_stamp' if stamp == last
                   else 'backward_stamp'] += 1
    keep, refused = split_rising(np.array(stamps, dtype=np.int64))
    assert keep.tolist() == kept
    assert refused == {cause: count for cause, count in counts.items() if count}


def test_rhythm_measures_rate_gaps_and_what_is_missing() -> None:
    stamps = np.delete(np.arange(101) * SECOND // 10, range(40, 50))
    found = rhythm(stamps)
    assert found.rate_hz == pytest.approx(9.0)
    assert (found.usual_s, found.gaps) == (0.1, 1)
    assert (found.longest_s, found.longest_at_s) == (pytest.approx(1.1), pytest.approx(3.9))
    # Ten of a hundred messages are not there.
    assert found.missing == pytest.approx(0.1)
    assert rhythm(stamps[:1]).rate_hz == 0.0


@given(st.lists(st.integers(0, 100), min_size=1, unique=True), st.lists(st.integers(-20, 120)))
def test_the_distance_to_the_nearest_stamp(stamps: list[int], ticks: list[int]) -> None:
    rising = np.array(sorted(stamps), dtype=np.int64)
    wanted = [min(abs(tick - stamp) for stamp in stamps) / SECOND for tick in ticks]
    assert distance_s(np.array(ticks, dtype=np.int64), rising).tolist() == wanted


@pytest.mark.parametrize(('values', 'switch'), [
    ([0.0] * 9 + [1.0] * 9, True),                   # a gripper
    ([0.0] * 9 + [0.5] + [1.0] * 9, True),           # one picked on its way
    ([0.0] * 9 + [1.0] + [0.0] * 9, False),          # one sample far away
    ([0.0] * 9 + [1.0, 1.0] + [0.0] * 9, False),     # two of them
    ([1.0] + [0.0] * 18, False),                     # the first one
    (list(np.linspace(0.0, 1.0, 19)), False),        # a motion
    ([0.5] * 19, False),                             # nothing
])
def test_a_switch_stays_where_it_is_put(values: list[float], switch: bool) -> None:
    assert is_switch(np.array(values)) is switch


def test_travel_and_steps_are_those_of_the_farthest_value() -> None:
    seconds = np.arange(41) / 20
    motion = Motion([numbers(np.stack([seconds, -3.0 * seconds], axis=1))], 20.0)
    assert motion.known
    assert motion.travel(7, 7 + SECOND) == pytest.approx(3.0, abs=0.2)
    steps = motion.between(np.array([7, 7 + SECOND // 2, 7 + SECOND], dtype=np.int64))
    assert steps == pytest.approx([1.5, 1.5])


def test_motion_is_told_from_positions_where_there_are_any() -> None:
    """Efforts tremble when the arm stands."""
    rng = np.random.default_rng(0)
    still, trembling = np.zeros(60), rng.normal(size=60)
    both = Motion([numbers(still), numbers(trembling, positions=False)], 20.0)
    assert not both.moving(0.5, 0.005).any()
    assert Motion([numbers(trembling, positions=False)], 20.0).moving(0.5, 0.005).all()
    assert not Motion([], 20.0).known
    assert list(check_idle(Motion([], 20.0), LIMITS)) == []


def test_moving_looks_half_a_window_both_ways() -> None:
    values = np.zeros(61)
    values[30:] = 1.0
    moving = Motion([numbers(values)], 20.0).moving(0.5, 0.005)
    assert np.flatnonzero(moving).tolist() == list(range(25, 35))


def test_too_few_samples_prove_nothing() -> None:
    """RLDS episodes may have four steps."""
    assert list(check_constant([numbers(np.zeros(7))], LIMITS)) == []
    reason, = check_constant([numbers(np.zeros(8))], LIMITS)
    assert (reason.key, reason.severity) == ('constant', 'refused')
    noise = np.random.default_rng(0).normal(size=49)
    assert list(check_constant([numbers(noise)], LIMITS)) == []
    reason, = check_constant([numbers(np.append(noise, noise[0]))], LIMITS)
    assert reason.severity == 'refused'


def test_commands_may_tremble() -> None:
    """Small steps of a hand look like noise, and are not."""
    noise = np.random.default_rng(0).normal(size=200)
    assert list(check_constant([numbers(noise, kind='action')], LIMITS)) == []


def test_streams_without_values_are_no_dead_recording() -> None:
    """Human videos have neither state nor action."""
    nothing = np.zeros((100, 0))
    assert list(check_constant([numbers(nothing), numbers(nothing, kind='action')],
                               LIMITS)) == []


@pytest.mark.parametrize(('rows', 'severity'), [([3], 'doubtful'), ([3, 50, 51], 'refused')])
def test_rows_that_are_no_numbers_are_found(rows: list[int], severity: str) -> None:
    values = np.zeros((200, 3))
    values[rows, 1] = np.inf
    reason, = check_finite(numbers(values), LIMITS)
    assert reason.severity == severity
    assert f'{len(rows)} of 200 rows hold NaN or infinity in v1: ' in reason.text
    assert list(check_finite(numbers(np.zeros((200, 3))), LIMITS)) == []


@pytest.mark.parametrize('lag', [-8, -2, 0, 3, 12])
def test_a_known_lag_is_found_and_only_an_unlikely_one_is_told(lag: int) -> None:
    rng = np.random.default_rng(4)
    speed = np.convolve(rng.normal(size=400), np.ones(6) / 6, mode='same')
    moves = np.roll(speed, lag)
    state = (np.cumsum(moves) - moves)[:, None] / 20  # what a tick commands shows in the next
    found = command_lag(speed[:, None], state, 20.0)
    assert found == (lag / 20, pytest.approx(1.0, abs=0.05))
    told = list(check_lag(lag_curve(speed[:, None], state, 20.0), LIMITS))
    assert bool(told) == (lag in (-8, 12))


def test_a_lag_that_many_fit_alike_is_not_told() -> None:
    """One slow swing says nothing about tenths of a second."""
    seconds = np.arange(100) / 20
    speed = np.sin(0.6 * seconds)
    state = np.cumsum(np.sin(0.6 * (seconds - 0.7)))[:, None] / 20
    assert list(check_lag(lag_curve(speed[:, None], state, 20.0), LIMITS)) == []
    assert lag_curve(np.zeros((100, 0)), state, 20.0) is None


def test_the_verdict_is_as_bad_as_the_worst_reason() -> None:
    def reason(severity: str) -> Reason:
        return Reason(f'key_{severity}', severity, 'image.front', 1.0, 2.0, f'is {severity}')
    note, doubtful, refused = map(reason, ('note', 'doubtful', 'refused'))
    assert Verdict.of('e', []).level == Verdict.of('e', [note]).level == 'good'
    assert Verdict.of('e', [note, doubtful]).level == 'doubtful'
    worst = Verdict.of('e', [note, doubtful, refused, doubtful])
    assert worst.level == 'refused' and worst.refused
    assert worst.reasons[0] is refused and worst.reasons[-1] is note
    assert worst.because() == 'image.front: is refused'
    assert worst.keys() == ('key_refused', 'key_doubtful', 'key_note')
    assert worst.to_dict()['reasons'][0]['text'] == 'is refused'
    assert note.line() == 'note: key_note: image.front: is note'
    assert Verdict.of('e', []).because() == ''


@pytest.mark.parametrize(('value', 'refused', 'wanted'), [
    (0.1, 0.5, None), (0.2, 0.5, ('doubtful', 0.1)), (0.5, 0.5, ('refused', 0.5)),
    (0.9, None, ('doubtful', 0.1)), (0.0, 0.0, ('refused', 0.0))])
def test_grades(value: float, refused: float | None, wanted: object) -> None:
    assert grade(value, 0.1, refused) == wanted
