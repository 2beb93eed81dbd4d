# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The whole aligner against a naive one, row by row.

Rates, phases, jitter, gaps, late starts, early ends, duplicate, backward and zero stamps, unusable
messages, receive times in another order, streams without stamps: every skew, flag and count must
be what plain loops over Python integers make of the same messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
import math
from pathlib import Path
import random
import statistics
import struct
import tempfile
from typing import Any

from bag_samples import write_mcap
from dataset_episodes import (
    array_message, image_message, joints_message, MS, pose_message, Recording, twist_message)
from hypothesis import event, given, HealthCheck, settings, strategies
import numpy as np
import pytest

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.align import align_recording, AlignedEpisode
from ssl_vla_ros.dataset.align_recording import Message, Place
from ssl_vla_ros.dataset.aligned import stream_labels
from ssl_vla_ros.dataset.sources.rosbag2_bag import Bag
from ssl_vla_ros.dataset.sources.rosbag2_find import BagFiles
from ssl_vla_ros.dataset.sources.rosbag2_types import known_definition
from ssl_vla_ros.errors import DatasetError

BASE = 1_700_000_000_000 * MS
SECOND = 10**9
SIDE = 16
_STAMPED = {'front': '/front', 'wrist': '/wrist', 'joints': '/joints', 'twist': '/twist',
            'truth': '/truth'}


@dataclass
class Sent:
    """One message: when it came, what its header says, and which number it carries."""

    received: int
    stamp: int
    number: int
    cause: str = ''


@dataclass
class Case:
    """A recording and how it is to be aligned."""

    contract: Contract
    streams: dict[str, list[Sent]] = field(default_factory=dict)


# ---------------------------------------------------------------- messages, made quickly

_IMAGE = image_message(0, np.zeros((SIDE, SIDE, 3), np.uint8))
_TEMPLATES = {
    'twist': (twist_message(0, 0.5), struct.pack('<d', 0.5)),
    'truth': (pose_message(0, 0.5), struct.pack('<d', 0.5)),
    'joints': (joints_message(0, [0.5, -0.5], ['shoulder', 'elbow']),
               struct.pack('<2d', 0.5, -0.5)),
    'grip': (array_message([0.5]), struct.pack('<d', 0.5))}


def serialize(stream: str, sent: Sent) -> bytes:
    """Put stamp and number into the bytes of a message; spoil it where it is to be refused."""
    if stream in ('front', 'wrist'):
        if sent.cause == 'size_changed':
            data = bytearray(image_message(
                0, np.full((SIDE + 2, SIDE, 3), sent.number % 256, np.uint8)))
        else:
            data = bytearray(_IMAGE)
            data[-SIDE * SIDE * 3:] = bytes([sent.number % 256]) * (SIDE * SIDE * 3)
        if sent.cause == 'length':
            del data[-7:]
    else:
        template, mark = _TEMPLATES[stream]
        value = math.nan if sent.cause == 'nan' else float(sent.number)
        new = struct.pack('<2d', value, -value) if stream == 'joints' else struct.pack('<d', value)
        assert template.count(mark) == 1
        data = bytearray(template.replace(mark, new))
    if stream != 'grip':
        struct.pack_into('<iI', data, 4, sent.stamp // SECOND, sent.stamp % SECOND)
    return bytes(data)


class InMemory:
    """The messages of a case as a recording, in any order."""

    path = Path('case')

    def __init__(self, case: Case) -> None:
        self.contract = case.contract
        self.kinds = case.contract.topics()
        self.sent = [(stream, sent, serialize(stream, sent))
                     for stream, some in case.streams.items() for sent in some]

    def recorded(self) -> Mapping[str, str]:
        return {topic: topic for topic in self.kinds}

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        for place, (stream, sent, data) in enumerate(self.sent):
            if stream in topics:
                yield Message(stream, sent.received, Place(0, 0, place), memoryview(data))

    def read(self, place: Place, topic: str) -> tuple[int, memoryview]:
        stream, sent, data = self.sent[place.offset]
        assert stream == topic
        return sent.received, memoryview(data)

    def type_of(self, topic: str) -> str:
        return self.kinds[topic]

    def definition(self, topic: str) -> str:
        return known_definition(self.kinds[topic])


# ------------------------------------------------------------------------------- cases

@strategies.composite
def streams_of(draw: Any, stream: str, most_ms: int) -> list[Sent]:
    """Messages of one stream: regular, with everything that can be wrong."""
    period = draw(strategies.sampled_from([50, 20, 33, 11, 95])) * MS
    begin = draw(strategies.integers(0, 60)) * MS
    end = most_ms * MS
    if draw(strategies.integers(0, 7)) == 7:
        begin += 250 * MS
    if draw(strategies.integers(0, 7)) == 7:
        end -= 300 * MS
    jitter = draw(strategies.sampled_from([0, 3, 15])) * MS
    delay = draw(strategies.integers(0, 20)) * MS
    chance = random.Random(draw(strategies.integers(0, 2**32)))
    count = max((end - begin) // period, 0)
    odd = dict(draw(strategies.lists(strategies.tuples(
        strategies.integers(0, max(count - 1, 0)), strategies.sampled_from(
            ['lost', 'gap', 'zero', 'duplicate', 'backward', 'cause', 'late'])), max_size=6)))
    found: list[Sent] = []
    silent = 0
    for number in range(count):
        stamp = BASE + begin + number * period + jitter * chance.randint(-1000, 1000) // 1000
        what = odd.get(number, '')
        if what == 'gap':
            silent = 6
        if what == 'lost' or silent:
            silent = max(silent - 1, 0)
            continue
        received = stamp + delay + (40 * MS if what == 'late' else 0)
        cause = ''
        if what == 'zero':
            stamp = 0
        elif what == 'duplicate' and found:
            stamp = found[-1].stamp
        elif what == 'backward' and found:
            stamp = max(found[-1].stamp - 7 * MS, 1)
        elif what == 'cause':
            cause = {'front': 'length', 'wrist': 'size_changed'}.get(stream, 'nan')
        found.append(Sent(received, stamp, number + 1, cause))
    return found


@strategies.composite
def cases(draw: Any) -> Case:
    """Make a contract and what was recorded with it."""
    cameras = draw(strategies.sampled_from([('front', 'wrist'), ('front',), ()]))
    commands = draw(strategies.sampled_from([('twist', 'grip'), ('twist',), ('grip',), ()]))
    kinds = {'twist': ('geometry_msgs/TwistStamped', ['linear.x']),
             'grip': ('std_msgs/Float64MultiArray', ['grip'])}
    contract = parse_contract({
        'robot': 'any', 'rate_hz': draw(strategies.integers(5, 60)),
        'cameras': {name: {'topic': name, 'type': 'sensor_msgs/Image', 'height': SIDE,
                           'width': SIDE} for name in cameras},
        'state': [{'topic': 'joints', 'type': 'sensor_msgs/JointState',
                   'names': ['elbow', 'shoulder']}],
        'action': [{'topic': name, 'type': kinds[name][0], 'names': kinds[name][1]}
                   for name in commands],
        'evaluation': [{'topic': 'truth', 'type': 'geometry_msgs/PoseStamped',
                        'names': ['position.x']}],
        'sync': {'state': draw(strategies.sampled_from(['linear', 'nearest'])),
                 'action': draw(strategies.sampled_from(['next', 'nearest'])),
                 'max_skew_s': draw(strategies.sampled_from([0.02, 0.05, 0.2])),
                 'max_flagged_fraction': draw(strategies.sampled_from([1.0, 0.3, 0.1]))}}, 'case')
    most_ms = draw(strategies.sampled_from([900, 700, 1200, 250]))
    return Case(contract, {
        topic: draw(streams_of(topic, most_ms)) for topic in contract.topics()})


# ------------------------------------------------------------------------------ oracle

@dataclass
class Answer:
    """What the naive aligner makes of a case; ``refused`` says why there are no rows."""

    refused: str = ''
    ticks: list[int] = field(default_factory=list)
    taken: dict[str, list[Any]] = field(default_factory=dict)
    skews: dict[str, list[float]] = field(default_factory=dict)
    flagged: list[bool] = field(default_factory=list)
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    lost: int = 0


def good(topic: str, sent: list[Sent]) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Keep (stamp, number) of what may be used, and count the rest."""
    kept: list[tuple[int, int]] = []
    rejected: dict[str, int] = {}
    arrived = sorted(sent, key=lambda item: item.received)
    # The first picture sets the size, even if it is the odd one.
    odd_size = bool(arrived) and arrived[0].cause == 'size_changed'
    last = 0
    for item in arrived:
        cause = item.cause
        if topic == 'wrist':
            cause = 'size_changed' if (cause == 'size_changed') != odd_size else ''
        if cause:
            rejected[cause] = rejected.get(cause, 0) + 1
            continue
        stamp = item.received if topic == 'grip' else item.stamp
        cause = ''
        if stamp <= 0:
            cause = 'zero_stamp'
        elif stamp == last:
            cause = 'duplicate_stamp'
        elif stamp < last:
            cause = 'backward_stamp'
        if cause:
            rejected[cause] = rejected.get(cause, 0) + 1
        else:
            kept.append((stamp, item.number))
            last = stamp
    return kept, rejected


def nearest(tick: int, kept: list[tuple[int, int]]) -> int:
    best = 0
    for index, (stamp, _) in enumerate(kept):
        if abs(stamp - tick) < abs(kept[best][0] - tick):
            best = index
    return best


def following(tick: int, kept: list[tuple[int, int]], period: int) -> int:
    held = -1
    for index, (stamp, _) in enumerate(kept):
        if tick <= stamp < tick + period:
            return index
        if stamp < tick:
            held = index
    return held


def between(tick: int, kept: list[tuple[int, int]]) -> tuple[float, int]:
    """Linear value at a tick, and the distance (ns) to the farther sample it is made of."""
    for stamp, number in kept:
        if stamp == tick:
            return float(number), 0
    before = [item for item in kept if item[0] < tick]
    after = [item for item in kept if item[0] > tick]
    if not before or not after:
        stamp, number = (before or [after[0]])[-1]
        return float(number), abs(stamp - tick)
    (low, first), (high, second) = before[-1], after[0]
    part = (tick - low) / (high - low)
    return first * (1 - part) + second * part, max(tick - low, high - tick)


def answer(case: Case) -> Answer:
    """Align naively."""
    contract, found = case.contract, Answer()
    sync, rate = contract.sync, contract.rate_hz
    period = SECOND // rate
    kept: dict[str, list[tuple[int, int]]] = {}
    kinds: dict[str, str] = {}
    for label, kind, source in stream_labels(contract):
        kinds[label] = kind
        kept[label], found.rejected[label] = good(source.topic, case.streams[source.topic])
        found.messages[label] = len(kept[label])
    needed = [label for label in kept if kinds[label] != 'evaluation']
    for label in needed:
        if not kept[label]:
            found.refused = f'{label} '
            return found
    start = max(kept[label][0][0] - (period - 1 if kinds[label] == 'action' else 0)
                for label in needed)
    end = min(kept[label][-1][0] for label in needed)
    phase = [stamp for stamp, _ in kept[needed[0]] if stamp >= start]
    if not phase or phase[0] > end:
        found.refused = 'no moment with data of every'
        return found
    step = 0
    while phase[0] + step * SECOND // rate <= end:
        found.ticks.append(phase[0] + step * SECOND // rate)
        step += 1
    for label in kept:
        take_all(found, label, kinds[label], kept[label], contract, period)
    bound = np.float32(sync.max_skew_s)
    found.flagged = [
        any(not np.float32(found.skews[label][row]) <= bound for label in needed)
        for row in range(len(found.ticks))]
    expected = min(max(kept[label][-1][0] for label in group) for group in (
        [label for label in needed if kinds[label] != 'action'],
        [label for label in needed if kinds[label] == 'action']) if group)
    for label in needed:
        stamps = [stamp for stamp, _ in kept[label]]
        usual = int(statistics.median(
            [later - stamp for stamp, later in zip(stamps, stamps[1:], strict=False)])
        ) if len(stamps) > 1 else 0
        reach = max(stamps[-1] + max(usual, round(sync.max_skew_s * SECOND)), found.ticks[-1])
        missing, count = step, 0
        while (tick := phase[0] + missing * SECOND // rate) <= expected:
            count += tick > reach
            missing += 1
        found.lost = max(found.lost, count)
    bad = sum(found.flagged) + found.lost
    if bad > sync.max_flagged_fraction * (len(found.ticks) + found.lost):
        found.refused = f'{bad} of {len(found.ticks) + found.lost} ticks lack data'
    return found


def take_all(found: Answer, label: str, kind: str, kept: list[tuple[int, int]],
             contract: Contract, period: int) -> None:
    """Take a sample of one stream for every tick."""
    values: list[Any] = []
    skews: list[float] = []
    indices = []
    for tick in found.ticks:
        if kind == 'state' and contract.sync.state == 'linear':
            value, far = between(tick, kept)
            index = nearest(tick, kept)
        else:
            index = -1
            if kept:
                index = (following(tick, kept, period)
                         if kind == 'action' and contract.sync.action == 'next'
                         else nearest(tick, kept))
            value = kept[index][1] if index >= 0 else math.nan
            far = abs(kept[index][0] - tick) if index >= 0 else -1
        skew = far / SECOND if far >= 0 else math.nan
        if kind == 'evaluation' and not skew <= contract.sync.max_skew_s:
            value = math.nan
        indices.append(index)
        values.append(value)
        skews.append(skew)
    found.taken[label], found.skews[label] = values, skews
    found.repeated[label] = sum(
        index == before for before, index in zip(indices, indices[1:], strict=False)
    ) if kept else 0


# ------------------------------------------------------------------------------- tests

def compare(aligned: AlignedEpisode, expected: Answer, contract: Contract) -> None:
    """Hold every row, skew, flag and count against the naive ones."""
    assert aligned.ticks_ns.tolist() == expected.ticks
    assert aligned.flagged.tolist() == expected.flagged
    assert aligned.report is not None
    assert aligned.report.lost_ticks == expected.lost
    assert aligned.report.flagged == sum(expected.flagged)
    assert {stream.name: dict(stream.rejected) for stream in aligned.report.streams
            } == expected.rejected
    assert {stream.name: stream.messages for stream in aligned.report.streams
            } == expected.messages
    assert {stream.name: stream.repeated for stream in aligned.report.streams
            } == expected.repeated
    columns: dict[str, list[str]] = {'state': [], 'action': [], 'evaluation': []}
    for label, kind, _ in stream_labels(contract):
        np.testing.assert_array_equal(
            aligned.skew_s[label], np.array(expected.skews[label], dtype=np.float32), label)
        if kind != 'image':
            columns[kind].append(label)
            continue
        frames = aligned.frames(label.removeprefix('image.'))
        assert (frames == frames[:, :1, :1, :1]).all()
        assert frames[:, 0, 0, 0].tolist() == [number % 256 for number in expected.taken[label]]
    state = np.array(expected.taken['state.joints'])
    np.testing.assert_allclose(aligned.state, np.stack([-state, state], axis=1), atol=1e-4)
    for part in ('action', 'evaluation'):
        values = [expected.taken[label] for label in columns[part]]
        np.testing.assert_array_equal(
            getattr(aligned, part), np.array(values, dtype=np.float32).reshape(
                len(values), len(expected.ticks)).T)


def check(recording: Any, case: Case, keep_bytes: int) -> None:
    """Align, and compare rows or refusal."""
    expected = answer(case)
    if expected.refused:
        event('refused: ' + ('too many flagged' if 'lack' in expected.refused else 'no rows'))
        with pytest.raises(DatasetError) as caught:
            align_recording(recording, case.contract, keep_bytes)
        assert expected.refused in str(caught.value)
        return
    event('flagged rows' if any(expected.flagged) else 'clean rows')
    compare(align_recording(recording, case.contract, keep_bytes), expected, case.contract)


@settings(max_examples=250, deadline=None, suppress_health_check=[
    HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases(), strategies.sampled_from([0, 5 * SIDE * SIDE * 3, 10**9]), strategies.booleans())
def test_the_aligner_is_the_naive_one(case: Case, keep_bytes: int, backwards: bool) -> None:
    recording = InMemory(case)
    if backwards and len({sent.received for _, sent, _ in recording.sent}) == len(recording.sent):
        recording.sent.reverse()
    check(recording, case, keep_bytes)


@settings(max_examples=25, deadline=None, suppress_health_check=[
    HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases())
def test_the_aligner_is_the_naive_one_over_files(case: Case) -> None:
    recording = Recording(contract=case.contract, messages=[
        (sent.received, topic, serialize(topic, sent))
        for topic, some in case.streams.items() for sent in some])
    with tempfile.TemporaryDirectory() as folder:
        path = write_mcap(Path(folder) / 'case.mcap', recording, chunk_size=3000)
        check(Bag(BagFiles('case', (path,), {}, {}), case.contract), case, 0)


def test_the_naive_aligner_notices_a_row_that_is_off() -> None:
    """Negative control: what is compared would not pass with another answer."""
    contract = parse_contract({
        'robot': 'any', 'rate_hz': 20, 'cameras': {'front': {
            'topic': 'front', 'type': 'sensor_msgs/Image', 'height': SIDE, 'width': SIDE}},
        'state': [{'topic': 'joints', 'type': 'sensor_msgs/JointState',
                   'names': ['elbow', 'shoulder']}], 'action': []}, 'case')
    case = Case(contract, {
        name: [Sent(BASE + step * 50 * MS, BASE + step * 50 * MS, step + 1) for step in range(9)]
        for name in ('front', 'joints')})
    aligned = align_recording(InMemory(case), contract)
    compare(aligned, answer(case), contract)
    case.streams['front'][4].number += 1
    with pytest.raises(AssertionError):
        compare(aligned, answer(case), contract)
    case.streams['front'][4].number -= 1
    case.streams['joints'][4].stamp += MS
    with pytest.raises(AssertionError):
        compare(aligned, answer(case), contract)
