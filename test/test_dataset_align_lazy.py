# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that are read when they are used: the same ones, in little memory, or an error."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
import tracemalloc
from typing import Any

import cv2
from dataset_episodes import (
    image_message, MS, PERIOD_NS, picture, Recording, small_contract, START_NS, STORE, TYPES)
import numpy as np
from numpy.typing import NDArray
import pytest

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.align import align_episode, align_recording, AlignedEpisode
from ssl_vla_ros.dataset.align_mcap import McapFile
from ssl_vla_ros.dataset.align_pictures import picture_size, TickPictures
from ssl_vla_ros.dataset.align_recording import Message, Place
from ssl_vla_ros.dataset.align_session import EpisodeRecording
from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import DatasetError, EpisodeError, MessageError
from ssl_vla_ros.messages.images import camera_rgb

WRIST = 'camera/wrist/image_raw'


def lazily(recording: Recording, folder: Path) -> AlignedEpisode:
    episode = Episode.open(recording.write(folder))
    return align_recording(EpisodeRecording(episode), recording.contract, keep_bytes=0)


def tick_pictures(aligned: AlignedEpisode, camera: str) -> TickPictures:
    found = aligned.pictures[camera]
    assert isinstance(found, TickPictures)
    return found


class Counting(EpisodeRecording):
    """Counts what is read a second time."""

    reads = 0

    def read(self, place: Place, topic: str) -> tuple[int, memoryview]:
        self.reads += 1
        return super().read(place, topic)


def damaged() -> Recording:
    """Pictures of every kind that is refused, among good ones."""
    recording = Recording.regular(20)
    recording.drop(WRIST, START_NS + 5 * PERIOD_NS, START_NS + 6 * PERIOD_NS)
    at = START_NS + 5 * PERIOD_NS
    red = np.full((32, 48, 3), 255, dtype=np.uint8)
    recording.messages += [
        (at + MS, WRIST, image_message(at, red, step=7)),
        (at + 2 * MS, WRIST, image_message(at + MS, red[:8, :8])),
        (at + 3 * MS, WRIST, image_message(at + 2 * MS, red)[:-40]),
        (at + 4 * MS, WRIST, image_message(START_NS, red)),
        (at + 5 * MS, WRIST, image_message(0, red))]
    return recording


def test_pictures_read_again_are_those_kept_in_memory(tmp_path: Path) -> None:
    recording = damaged()
    episode = Episode.open(recording.write(tmp_path))
    kept = align_episode(episode, recording.contract)
    counting = Counting(episode)
    lazy = align_recording(counting, recording.contract, keep_bytes=0)
    assert counting.reads == 0, 'nothing is read again before it is asked for'
    for camera in ('front', 'wrist'):
        np.testing.assert_array_equal(lazy.frames(camera), kept.frames(camera))
    assert counting.reads == 20 + 19, 'a picture that two ticks take is read once'
    assert lazy.report == kept.report
    np.testing.assert_array_equal(lazy.frames('wrist'), kept.frames('wrist'))
    assert kept.report is not None
    wrist = kept.report.streams[1]
    assert wrist.rejected == {'step': 1, 'size_changed': 1, 'length': 1, 'backward_stamp': 1,
                              'zero_stamp': 1}


def test_part_of_the_pictures_may_be_kept(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    counting = Counting(Episode.open(recording.write(tmp_path)))
    aligned = align_recording(counting, recording.contract, keep_bytes=10 * 32 * 48 * 3)
    for camera in ('front', 'wrist'):
        expected = np.stack([picture(tick, camera) for tick in range(20)])
        np.testing.assert_array_equal(aligned.frames(camera), expected)
    assert counting.reads == 30


def big_recording(ticks: int) -> Recording:
    data = small_contract().to_dict()
    for camera in data['cameras'].values():
        camera.update(height=240, width=320)
    recording = Recording(contract=parse_contract(data, 'big'))
    small = Recording.regular(ticks)
    for received, topic, body in small.messages:
        if topic.startswith('camera'):
            stamp = received - 2 * MS
            body = image_message(stamp, np.full((240, 320, 3), stamp // MS % 251, np.uint8))
        recording.messages.append((received, topic, body))
    return recording


def test_memory_does_not_grow_with_the_episode(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ssl_vla_ros.dataset.align_mcap._CACHE_BYTES', 4_000_000)
    recording = big_recording(80)
    path = recording.write(tmp_path)
    recording.messages = []
    episode = Episode.open(path)
    tracemalloc.start()
    try:
        aligned = align_recording(EpisodeRecording(episode), recording.contract, keep_bytes=0)
        first, read = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        shown = [int(image[0, 0, 0]) for image in aligned.pictures['front']]
        _, passed = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert shown == [(START_NS + tick * PERIOD_NS) // MS % 251 for tick in range(80)]
    assert first < 3e6, 'stamps and places stay, none of the pictures (37 MB)'
    assert read < 8e6, 'a chunk of about 1 MB at a time'
    assert passed < 10e6, 'and the last few of them'


def compressed_contract() -> Contract:
    data = small_contract().to_dict()
    data['cameras']['wrist'] |= {'type': 'sensor_msgs/CompressedImage'}
    return parse_contract(data, 'compressed')


def compressed_message(stamp: int, content: bytes) -> bytes:
    header = TYPES['std_msgs/msg/Header'](stamp=TYPES['builtin_interfaces/msg/Time'](
        sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id='')
    return bytes(STORE.serialize_cdr(TYPES['sensor_msgs/msg/CompressedImage'](
        header=header, format='jpeg', data=np.frombuffer(content, np.uint8)),
        'sensor_msgs/msg/CompressedImage'))


@pytest.mark.parametrize('ending', ['.jpg', '.png'])
def test_compressed_pictures_are_judged_alike(tmp_path: Path, ending: str) -> None:
    recording = Recording(contract=compressed_contract())
    at = START_NS + 5 * PERIOD_NS
    for received, topic, data in Recording.regular(20).messages:
        if topic == WRIST:
            stamp = received - 2 * MS
            image = picture((stamp - START_NS) // PERIOD_NS, 'wrist')
            content = cv2.imencode(ending, image[..., ::-1])[1].tobytes()
            if stamp == at:
                content = b'\xff\xd8no picture at all'
            if stamp == at + PERIOD_NS:
                content = b''
            if stamp == at + 2 * PERIOD_NS:
                content = cv2.imencode(ending, image[:16])[1].tobytes()
            data = compressed_message(stamp, content)
        recording.messages.append((received, topic, data))
    recording.contract = parse_contract(
        recording.contract.to_dict() | {'sync': {'max_flagged_fraction': 0.2}}, 'loose')
    episode = Episode.open(recording.write(tmp_path))
    kept = align_episode(episode, recording.contract)
    lazy = align_recording(EpisodeRecording(episode), recording.contract, keep_bytes=0)
    np.testing.assert_array_equal(lazy.frames('wrist'), kept.frames('wrist'))
    assert lazy.report == kept.report
    assert kept.report is not None
    assert kept.report.streams[1].rejected == {'encoding': 1, 'length': 1, 'size_changed': 1}


@pytest.mark.parametrize(('changes', 'cause'), [
    ({}, ''), ({'encoding': 'mono16', 'step': 96}, ''), ({'encoding': 'bayer_rggb8'}, ''),
    ({'encoding': 'yuv422', 'step': 96}, ''), ({'encoding': 'nv21'}, 'encoding'),
    ({'step': 7}, 'step'), ({'height': 31}, 'length'), ({'height': 0}, 'size'),
    ({'encoding': 'bayer_rggb8', 'height': 1, 'data': bytes(144)}, 'size'),
])
def test_a_picture_s_size_is_known_or_refused_as_its_pixels(
        changes: dict[str, Any], cause: str) -> None:
    camera = small_contract().cameras[0]
    image = TYPES['sensor_msgs/msg/Image'](
        header=None, height=32, width=48, encoding='rgb8', is_bigendian=0, step=144,
        data=np.zeros(32 * 144, np.uint8))
    for name, value in changes.items():
        object.__setattr__(image, name, value)
    if changes.get('encoding') in ('mono16', 'yuv422'):
        object.__setattr__(image, 'data', np.zeros(32 * 96, np.uint8))
    if not cause:
        assert picture_size(camera, image) == camera_rgb(camera, image).shape[:2]
        return
    for judge in (picture_size, camera_rgb):
        with pytest.raises(MessageError) as caught:
            judge(camera, image)
        assert caught.value.cause == cause


def test_a_stalled_reader_is_an_error_and_never_a_shifted_row(tmp_path: Path) -> None:
    pictures = tick_pictures(lazily(Recording.regular(20), tmp_path), 'front')

    def stale(number: int) -> tuple[int, NDArray[np.uint8]]:
        return pictures.read(number - (number >= 12))

    def skipping(number: int) -> tuple[int, NDArray[np.uint8]]:
        return pictures.read(number + (number >= 12))

    for broken in (stale, skipping):
        passed = []
        with pytest.raises(DatasetError, match=r'image\.front: row 12 takes the picture stamped'):
            passed.extend(replace(pictures, read=broken))
        assert [int(image[0, 0, 0]) for image in passed] == [16 + 3 * tick for tick in range(12)]


def test_a_reader_that_fails_or_gives_another_size_is_an_error(tmp_path: Path) -> None:
    pictures = tick_pictures(lazily(Recording.regular(20), tmp_path), 'front')

    def smaller(number: int) -> tuple[int, NDArray[np.uint8]]:
        stamp, image = pictures.read(number)
        return stamp, image[:-2]

    with pytest.raises(DatasetError, match=r'row 0 .* \(30, 48, 3\)'):
        list(replace(pictures, read=smaller))

    def failing(number: int) -> tuple[int, NDArray[np.uint8]]:
        raise EpisodeError('the disk is gone')

    with pytest.raises(EpisodeError, match='the disk is gone'):
        list(replace(pictures, read=failing))


def test_a_build_whose_reader_stalls_refuses_the_episode(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads a picture again gives the last one once more: no row comes of it."""
    Recording.regular(12).write(tmp_path / 'session')
    monkeypatch.setattr('ssl_vla_ros.dataset.align_pictures.Budget.spend', lambda *_: False)
    real = McapFile.read
    last: list[tuple[int, memoryview]] = []

    def stalling(self: McapFile, place: Place, topic: str) -> tuple[int, memoryview]:
        found = real(self, place, topic)
        last.append(found)
        return found if len(last) % 7 else last[-2]

    monkeypatch.setattr(McapFile, 'read', stalling)
    with pytest.raises(DatasetError, match='row 3 takes the picture stamped'):
        build_dataset(tmp_path / 'session', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_an_episode_that_changes_in_between_is_an_error(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    path = recording.write(tmp_path)
    aligned = align_recording(
        EpisodeRecording(Episode.open(path)), recording.contract, keep_bytes=0)
    (bag,) = path.glob('*.mcap')
    bag.write_bytes(bag.read_bytes() + b'\0')
    with pytest.raises(EpisodeError, match='was changed while it was read'):
        aligned.frames('front')
    bag.unlink()
    with pytest.raises(EpisodeError, match='cannot be read'):
        aligned.frames('front')


def test_messages_out_of_order_in_the_file_are_judged_by_receive_time(tmp_path: Path) -> None:
    recording = damaged()
    ordered = align_episode(Episode.open(recording.write(tmp_path / 'a')), recording.contract)
    topics = recording.contract.topics()
    writer = EpisodeWriter(tmp_path / 'b', recording.contract, task='x', topics=topics)
    for received, topic, data in np.random.default_rng(1).permutation(
            np.array(recording.messages, dtype=object)):
        writer.write(topic, data, received, received)
    path = writer.close({}, status='incomplete')
    shuffled = align_episode(Episode.open(path), recording.contract)
    assert shuffled.report == ordered.report
    np.testing.assert_array_equal(shuffled.state, ordered.state)
    np.testing.assert_array_equal(shuffled.frames('wrist'), ordered.frames('wrist'))


class Broken(EpisodeRecording):
    """Gives a message that is cut off within its first fields."""

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        for message in super().messages(topics):
            yield message._replace(data=message.data[:9])


def test_a_message_that_does_not_decode_refuses_the_episode(tmp_path: Path) -> None:
    recording = Recording.regular(5)
    episode = Episode.open(recording.write(tmp_path))
    with pytest.raises(EpisodeError, match='does not decode as sensor_msgs/JointState'):
        align_recording(Broken(episode), recording.contract)


def test_a_type_that_is_another_in_the_contract_refuses_the_episode(tmp_path: Path) -> None:
    data = small_contract().to_dict()
    data['cameras']['front']['type'] = 'sensor_msgs/CompressedImage'
    episode = Episode.open(Recording.regular(5).write(tmp_path))
    with pytest.raises(DatasetError, match=r'image\.front \(camera/front/image_raw\) is '
                       'sensor_msgs/CompressedImage in other, and sensor_msgs/Image in the'):
        align_episode(episode, parse_contract(data, 'other'))


def test_a_bag_cut_short_or_altered_refuses_the_episode(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    path = recording.write(tmp_path)
    (bag,) = path.glob('*.mcap')
    whole = bag.read_bytes()
    bag.write_bytes(whole[:-300])
    with pytest.raises(EpisodeError, match=r'cannot be read: it .* record this episode again'):
        align_episode(Episode.open(path), recording.contract)
    middle = len(whole) // 3
    bag.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:])
    with pytest.raises(EpisodeError, match='does not decompress|CRC'):
        align_episode(Episode.open(path), recording.contract)


def test_a_robot_without_cameras_and_actions_is_aligned(tmp_path: Path) -> None:
    data = small_contract().to_dict() | {'cameras': {}, 'action': []}
    recording = Recording.regular(20)
    aligned = align_episode(
        Episode.open(recording.write(tmp_path)), parse_contract(data, 'blind'))
    assert aligned.action.shape == (len(aligned.ticks_ns), 0)
    assert aligned.ticks_ns[0] == START_NS - 7 * MS, 'the first joint state sets the phase'
    assert aligned.report is not None
    assert aligned.report.lag_s is None
    assert not aligned.flagged.any()
