# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""No command outside of the limits, no command after a fault."""

from __future__ import annotations

from dataclasses import replace
import math

from hypothesis import given, strategies as st
import numpy as np
import pytest
from ssl_vla_ros.contract import ActionLimit, JointLimit, Limits
from ssl_vla_ros.errors import ContractError
from ssl_vla_ros.safety import (
    CommandLimiter, CommandRefusedError, Latch, refuse_stale, Watchdog)

NAMES = ('linear.x', 'gripper')
LIMITS = Limits(0.3, {'linear.x': ActionLimit(-0.4, 0.4, 0.1),
                      'gripper': ActionLimit(0.0, 1.0, 0.5, free_start=True)},
                {'elbow': JointLimit(-2.0, 2.0, 0.1, 3.0)})


def limiter(start: dict[str, float] | None = None) -> CommandLimiter:
    made = CommandLimiter(LIMITS, NAMES, 20)
    made.reset({'linear.x': 0.0} if start is None else start)
    return made


def test_without_limits_there_is_no_limiter() -> None:
    with pytest.raises(ContractError, match='no limits'):
        CommandLimiter(None, NAMES, 20)
    with pytest.raises(ContractError, match=r'no limits\.action for angular\.z'):
        CommandLimiter(LIMITS, (*NAMES, 'angular.z'), 20)


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=1, max_size=40))
def test_every_command_is_in_range_and_within_a_step_of_the_last(
        commands: list[tuple[float, float]]) -> None:
    made = limiter()
    last = np.array([0.0, math.nan])
    for command in commands:
        sent = made.limit(np.array(command))
        assert -0.4 <= sent[0] <= 0.4 and 0.0 <= sent[1] <= 1.0
        assert abs(sent[0] - last[0]) <= 0.1 + 1e-12
        assert math.isnan(last[1]) or abs(sent[1] - last[1]) <= 0.5 + 1e-12
        last = sent


def test_a_command_inside_the_limits_passes_unchanged_and_uncounted() -> None:
    made = limiter()
    np.testing.assert_array_equal(made.limit(np.array([0.05, 0.7])), [0.05, 0.7])
    assert made.clamped == {'linear.x': 0, 'gripper': 0}
    made.limit(np.array([0.3, 0.7]))
    assert made.clamped == {'linear.x': 1, 'gripper': 0}


def test_without_a_known_start_nothing_is_commanded_unless_the_contract_lets_it() -> None:
    limits = replace(LIMITS, action={name: replace(limit, free_start=False)
                                     for name, limit in LIMITS.action.items()})
    made = CommandLimiter(limits, NAMES, 20)
    with pytest.raises(CommandRefusedError, match='where linear.x, gripper starts'):
        made.limit(np.array([0.0, 0.9]))      # never told a start: 0.9 would be a leap
    made.reset({'linear.x': 0.1, 'gripper': 0.2})
    with pytest.raises(CommandRefusedError) as caught:
        made.reset({'linear.x': 0.0})
    assert caught.value.cause == 'unknown_start'
    for word in ('where gripper starts', "contract's state", 'limits.action.gripper',
                 'free_start: true'):
        assert word in str(caught.value)
    np.testing.assert_array_equal(made.last, [0.1, 0.2])   # the refusal has changed nothing
    np.testing.assert_allclose(made.limit(np.array([0.0, 1.0])), [0.0, 0.7])


def test_a_free_start_is_free_once_and_bound_where_it_is_known() -> None:
    made = limiter()
    assert made.limit(np.array([0.0, 1.0]))[1] == 1.0
    assert made.limit(np.array([0.0, 0.0]))[1] == 0.5
    made.reset({'linear.x': 0.0, 'gripper': 0.2})
    assert made.limit(np.array([0.0, 1.0]))[1] == pytest.approx(0.7)


def test_a_value_comes_back_by_steps_from_outside_of_its_range() -> None:
    made = limiter({'linear.x': 1.0, 'gripper': 0.0})
    sent = [made.limit(np.array([0.0, 0.0]))[0] for _ in range(12)]
    np.testing.assert_allclose(sent[:3], [0.9, 0.8, 0.7])
    assert sent[-1] == 0.0


@pytest.mark.parametrize(('command', 'cause'), [
    ([math.nan, 0.0], 'nan'), ([0.0, math.inf], 'nan'), ([0.0], 'length')])
def test_what_is_no_command_is_refused(command: list[float], cause: str) -> None:
    made = limiter()
    made.limit(np.array([0.1, 0.5]))
    with pytest.raises(CommandRefusedError) as caught:
        made.limit(np.array(command))
    assert caught.value.cause == cause
    np.testing.assert_array_equal(made.last, [0.1, 0.5])


def test_a_commanded_joint_keeps_its_margin_and_its_velocity() -> None:
    limits = Limits(0.3, {'elbow': ActionLimit(-3.0, 3.0, 1.0)}, LIMITS.joints)
    made = CommandLimiter(limits, ('elbow',), 20)
    made.reset({'elbow': 1.0})
    assert made.limit(np.array([3.0]))[0] == pytest.approx(1.0 + 3.0 / 20)
    for _ in range(20):
        sent = made.limit(np.array([3.0]))
    assert sent[0] == pytest.approx(1.9)
    with pytest.raises(ContractError, match=r'limits\.action\.elbow'):
        CommandLimiter(Limits(0.3, {'elbow': ActionLimit(2.5, 3.0, 1.0)}, LIMITS.joints),
                       ('elbow',), 20)


def test_a_halt_ramps_velocities_to_zero_and_holds_the_rest() -> None:
    made = limiter()
    for _ in range(3):
        made.limit(np.array([0.4, 0.8]))
    steps = [made.halt_step(['linear.x']) for _ in range(4)]
    np.testing.assert_allclose([command[0] for command, _ in steps], [0.2, 0.1, 0.0, 0.0],
                               atol=1e-12)
    assert {command[1] for command, _ in steps} == {0.8}
    assert [resting for _, resting in steps] == [False, False, True, True]


def test_a_held_value_that_was_never_commanded_stays_unknown() -> None:
    command, resting = limiter().halt_step(['linear.x'])
    assert command[0] == 0.0 and math.isnan(command[1]) and resting


@pytest.mark.parametrize(('joints', 'cause'), [
    ({'elbow': 1.95}, 'joint_position'), ({'elbow': -2.5}, 'joint_position'),
    ({'elbow': math.nan}, 'nan'), ({'wrist': 0.0}, 'unknown_joint')])
def test_a_joint_where_it_must_not_be_is_refused(joints: dict[str, float], cause: str) -> None:
    with pytest.raises(CommandRefusedError) as caught:
        limiter().check_joints(10**9, joints)
    assert caught.value.cause == cause


def test_a_joint_too_fast_is_refused_by_name_over_at_least_a_period() -> None:
    made = limiter()
    made.check_joints(10**9, {'elbow': 0.0})
    made.check_joints(10**9 + 8_000_000, {'elbow': 0.1})    # too soon to judge
    made.check_joints(10**9 + 50_000_000, {'elbow': 0.14})
    with pytest.raises(CommandRefusedError, match='joint elbow moves at 3.2') as caught:
        made.check_joints(10**9 + 100_000_000, {'elbow': 0.3})
    assert caught.value.cause == 'joint_velocity'
    made.forget_joints()
    made.check_joints(10**9 + 100_000_000, {'elbow': 1.5})


@pytest.mark.parametrize('age', [0.31, -0.31, math.nan, math.inf])
def test_what_is_too_old_or_from_the_future_is_refused_by_name(age: float) -> None:
    refuse_stale({'features': 0.3, 'joint_states': -0.3}, 0.3)
    with pytest.raises(CommandRefusedError, match='joint_states') as caught:
        refuse_stale({'features': 0.0, 'joint_states': age}, 0.3)
    assert caught.value.cause == 'stale'


def test_the_watchdog_names_what_is_silent_by_its_own_clock() -> None:
    now = [100.0]
    dog = Watchdog(['features', 'joint_states'], 0.3, clock=lambda: now[0])
    assert dog.silent() == {'features': math.inf, 'joint_states': math.inf}
    dog.feed('features')
    dog.feed('joint_states')
    now[0] += 0.25
    dog.feed('features')
    assert dog.silent() == {}
    now[0] += 0.1
    assert dog.silent() == {'joint_states': pytest.approx(0.35)}
    with pytest.raises(KeyError, match='camera'):
        dog.feed('camera')


def test_the_latch_starts_disabled_keeps_the_first_reason_and_opens_only_by_hand() -> None:
    latch = Latch()
    assert (latch.state, latch.enabled) == ('disabled', False)
    latch.enable()
    assert latch.enabled
    assert latch.halt('stale features')
    assert not latch.halt('nan')
    assert (latch.state, latch.reason, latch.enabled) == ('halted', 'stale features', False)
    latch.enable()
    assert latch.enabled and latch.reason == ''
    latch.disable('by hand')
    assert not latch.halt('stopped') and latch.state == 'halted'
