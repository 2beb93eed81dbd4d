# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""MCAP files of every build, whole, cut off and altered, read as their writer left them."""

from __future__ import annotations

from pathlib import Path
import struct
from typing import Any

from bag_samples import sort, write_mcap
from dataset_episodes import Recording
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Statistics
from mcap.writer import CompressionType
import pytest

from ssl_vla_ros.dataset.align_mcap import McapFile
from ssl_vla_ros.errors import EpisodeError
import zstandard

JOINTS, FRONT = '/joint_states', '/camera/front/image_raw'
LAYOUTS: dict[str, dict[str, Any]] = {
    'zstd': {}, 'lz4': {'compression': CompressionType.LZ4},
    'plain chunks': {'compression': CompressionType.NONE},
    'no chunks': {'use_chunking': False}, 'no index': {'index': False},
    'no summary': {'summary': False}, 'one chunk': {'chunk_size': 10**9},
    'small chunks': {'chunk_size': 1}}


def expected(recording: Recording, *topics: str) -> list[tuple[str, int, bytes]]:
    return [(f'/{topic}', received, data) for received, topic, data in sort(recording.messages)
            if f'/{topic}' in topics]


def read(file: McapFile, *topics: str) -> list[tuple[str, int, bytes]]:
    return [(message.topic, message.log_time_ns, bytes(message.data))
            for message in file.messages(topics)]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_gives_every_message_and_gives_it_again(tmp_path: Path, layout: str) -> None:
    recording = Recording.regular(12)
    file = McapFile(write_mcap(tmp_path / 'a.mcap', recording, **LAYOUTS[layout]))
    wanted = expected(recording, JOINTS, FRONT)
    info = file.topics()
    assert info.keys() == {f'/{topic}' for topic in recording.contract.topics()}
    assert (info[JOINTS].count, info[FRONT].count) == (61, 12)
    assert info[JOINTS].type == 'sensor_msgs/msg/JointState'
    assert info[JOINTS].encodings == ('cdr',)
    assert 'float64[] position' in info[JOINTS].definition
    assert file.span() == (sort(recording.messages)[0][0], sort(recording.messages)[-1][0])
    places = []
    for (topic, received, data), message in zip(
            wanted, file.messages((JOINTS, FRONT)), strict=True):
        assert (message.topic, message.log_time_ns, bytes(message.data)) == (topic, received, data)
        places.append(message.place)
    assert file.damage == ''
    for place, (topic, received, data) in reversed([*zip(places, wanted, strict=True)]):
        again, body = file.read(place, topic)
        assert (again, bytes(body)) == (received, data)
    with pytest.raises(EpisodeError, match='holds no message of /twist at'):
        file.read(places[0], '/twist')


def test_chunks_without_a_wanted_topic_are_not_decompressed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording.regular(12)
    path = write_mcap(tmp_path / 'a.mcap', recording, chunk_size=1)
    real, calls = zstandard.ZstdDecompressor, []

    def counted() -> zstandard.ZstdDecompressor:
        calls.append(1)
        return real()

    monkeypatch.setattr('ssl_vla_ros.dataset.align_chunk.zstandard.ZstdDecompressor', counted)
    assert len(read(McapFile(path), FRONT)) == 12
    assert len(calls) == 12


@pytest.mark.parametrize('layout', ['zstd', 'plain chunks', 'no chunks', 'lz4'])
def test_a_file_cut_anywhere_gives_a_beginning_and_says_so(tmp_path: Path, layout: str) -> None:
    recording = Recording.regular(6)
    path = write_mcap(tmp_path / 'a.mcap', recording, **LAYOUTS[layout])
    whole, wanted = path.read_bytes(), expected(recording, JOINTS, FRONT)
    most = 0
    for length in range(len(whole) - 1, 8, -211):
        path.write_bytes(whole[:length])
        file = McapFile(path)
        found = read(file, JOINTS, FRONT)
        assert found == wanted[:len(found)], length
        assert file.damage, length
        most = max(most, len(found))
        if layout in ('plain chunks', 'no chunks') and length > 30_000:
            assert found, 'what lies before the cut is read without a checksum, too'
    assert most == len(wanted)


@pytest.mark.parametrize('layout', ['zstd', 'plain chunks'])
def test_an_altered_chunk_ends_what_is_read(tmp_path: Path, layout: str) -> None:
    recording = Recording.regular(12)
    path = write_mcap(tmp_path / 'a.mcap', recording, **LAYOUTS[layout])
    whole, wanted = path.read_bytes(), expected(recording, JOINTS, FRONT)
    with path.open('rb') as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    chunk = sorted(summary.chunk_indexes, key=lambda item: item.chunk_start_offset)[2]
    place = chunk.chunk_start_offset + chunk.chunk_length - chunk.compressed_size // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1:])
    file = McapFile(path)
    found = read(file, JOINTS, FRONT)
    assert 0 < len(found) < len(wanted)
    assert found == wanted[:len(found)]
    assert 'CRC' in file.damage or 'does not decompress' in file.damage


def test_another_number_of_messages_than_the_file_says_is_an_error(tmp_path: Path) -> None:
    recording = Recording.regular(12)
    path = write_mcap(tmp_path / 'a.mcap', recording)
    data = path.read_bytes()
    with path.open('rb') as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    said = summary.statistics
    assert said is not None
    (joints,) = (item.id for item in summary.channels.values() if item.topic == JOINTS)
    old, new = record(said), None
    said.channel_message_counts[joints] += 1
    new = record(said)
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(EpisodeError, match='holds 61 messages of /joint_states, its statistics '
                       'say 62; the file is damaged'):
        read(McapFile(path), JOINTS)
    assert len(read(McapFile(path), FRONT)) == 12, 'the other topics are as they should be'


def record(statistics: Statistics) -> bytes:
    builder = RecordBuilder()
    statistics.write(builder)
    return bytes(builder.end())


def test_an_index_that_hides_a_chunk_is_found_out(tmp_path: Path) -> None:
    """The chunk index of one chunk names another channel: its messages would be skipped."""
    recording = Recording.regular(6)
    path = write_mcap(tmp_path / 'a.mcap', recording, chunk_size=1)
    data = bytearray(path.read_bytes())
    with path.open('rb') as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    ids = {item.topic: item.id for item in summary.channels.values()}
    index = next(item for item in summary.chunk_indexes
                 if ids[FRONT] in item.message_index_offsets)
    builder = RecordBuilder()
    index.write(builder)
    old = builder.end()
    offset = index.message_index_offsets[ids[FRONT]]
    new = old.replace(struct.pack('<HQ', ids[FRONT], offset),
                      struct.pack('<HQ', ids['/twist'], offset))
    assert new != old
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(EpisodeError, match='holds 5 messages of /camera/front/image_raw, its '
                       'statistics say 6'):
        read(McapFile(path), FRONT)


def test_what_is_no_mcap_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    path.write_bytes(b'SQLite format 3\0' * 10)
    with pytest.raises(EpisodeError, match=r'a\.mcap: is no MCAP file'):
        McapFile(path).topics()
    path.write_bytes(b'')
    with pytest.raises(EpisodeError, match=r'a\.mcap: is no MCAP file'):
        McapFile(path).topics()
    with pytest.raises(EpisodeError, match=r'b\.mcap: cannot be read: No such file'):
        McapFile(tmp_path / 'b.mcap')


def test_a_length_that_no_file_has_asks_for_no_memory(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / 'a.mcap', Recording.regular(6))
    data = bytearray(path.read_bytes())
    with path.open('rb') as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    chunk = min(summary.chunk_indexes, key=lambda item: item.chunk_start_offset)
    assert data[chunk.chunk_start_offset] == Opcode.CHUNK
    struct.pack_into('<Q', data, chunk.chunk_start_offset + 9 + 16, 2**60)
    path.write_bytes(data)
    file = McapFile(path)
    assert read(file, JOINTS) == []
    assert 'says that it is 1152921504606846976 bytes long' in file.damage


def test_a_compression_that_is_not_installed_is_told(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mcap(tmp_path / 'a.mcap', Recording.regular(6), **LAYOUTS['lz4'])
    monkeypatch.setattr('mcap.stream_reader.lz4', None)
    with pytest.raises(EpisodeError, match="compressed with 'lz4', .* pip install lz4"):
        read(McapFile(path), JOINTS)
