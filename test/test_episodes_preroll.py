# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The memory of the last seconds: how far it reaches, and that it forgets at the right time."""

from __future__ import annotations

from hypothesis import given, strategies

from ssl_vla_ros.episodes.intake import Fate, TopicIntake
from ssl_vla_ros.episodes.preroll import Change, Heard, PreRoll

SECOND = 10**9


def heard(sequence: int, received_s: float, size: int = 100, topic: str = 'a') -> Heard:
    """Make a message."""
    received_ns = round(received_s * SECOND)
    return Heard(topic, sequence, received_ns - 1000, bytes(size), received_ns, received_ns)


@given(strategies.lists(strategies.tuples(strategies.floats(0.0, 0.5),
                                          strategies.integers(0, 1000)), max_size=60),
       strategies.floats(0.1, 3.0), strategies.integers(1, 5000))
def test_it_holds_the_newest_that_are_young_and_few_enough(
        steps: list[tuple[float, int]], seconds: float, most: int) -> None:
    memory = PreRoll(seconds, most)
    now, every = 0.0, []
    for number, (step, size) in enumerate(steps, 1):
        now += step
        every.append(heard(number, now, size))
        memory.keep(every[-1], number - 1 or None)
    items, before = memory.look()
    kept = [item for item in items if isinstance(item, Heard)]
    assert kept == every[len(every) - len(kept):], 'the newest, without a hole'
    assert sum(len(item.cdr) for item in kept) <= most
    if kept:
        assert kept[-1].received_ns - kept[0].received_ns <= round(seconds * SECOND)
        assert before == {'a': kept[0].sequence - 1 or None}
    if len(kept) < len(every):
        dropped = every[len(every) - len(kept) - 1]
        newest = every[-1].received_ns
        assert (newest - dropped.received_ns > round(seconds * SECOND)
                or sum(len(item.cdr) for item in [dropped, *kept]) > most)
    memory.clear()
    assert memory.look() == ([], {})


def test_books_from_the_memory_are_as_if_the_episode_had_begun_then() -> None:
    """Losses before and in the remembered time are told apart, and a new publisher is noticed."""
    memory, intake = PreRoll(10.0, 10**6), TopicIntake(stamped=False)
    intake.publishers_changed(1, 1)

    def comes(sequence: int, at_s: float) -> None:
        item = heard(sequence, at_s)
        memory.keep(item, intake.last_sequence)
        intake.take(sequence, item.source_ns, item.cdr, received_ns=item.received_ns)

    for sequence, at_s in ((5, 1.0), (9, 2.0), (12, 11.5), (13, 12.0)):
        comes(sequence, at_s)
    change = Change('a', round(12.1 * SECOND), lambda found: found.publishers_changed(1, 1))
    memory.keep(change, intake.last_sequence)
    change.change(intake)
    comes(1, 12.2)
    begins = memory.begins_ns
    assert begins == round(11.5 * SECOND)
    items, before = memory.look()
    intake.begin(begins)
    intake.rewind(before['a'])
    for item in items:
        if isinstance(item, Change):
            item.change(intake)
        else:
            fate, _ = intake.take(item.sequence, item.source_ns, item.cdr,
                                  received_ns=item.received_ns)
            assert fate is Fate.KEEP
    account = intake.end()
    # 12 (10 and 11 lost before it), 13, and the new publisher's first; 5 and 9 are too old.
    assert (account.published, account.lost) == (3 + 2, 2)
    assert account.published_exact


def test_a_memory_of_nothing_keeps_nothing() -> None:
    assert not PreRoll(0.0, 100).wanted
    assert PreRoll(1.0, 100).begins_ns is None


def test_what_is_too_old_at_the_start_is_forgotten_though_nothing_came_since() -> None:
    memory = PreRoll(2.0, 10**6)
    for sequence, at_s in ((1, 1.0), (2, 2.5)):
        memory.keep(heard(sequence, at_s), sequence - 1)
    memory.forget_before(4 * SECOND)
    assert memory.begins_ns == round(2.5 * SECOND)
    memory.forget_before(600 * SECOND)
    assert memory.begins_ns is None
    memory.keep(heard(3, 600.5, size=900), 2)
    items, before = memory.look()
    assert len(items) == 1
    assert before == {'a': 2}
