# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""TFRecord files: every record found, every damage told, nothing guessed."""

from __future__ import annotations

from collections.abc import Callable
import gzip
from pathlib import Path
import re
from typing import Any
import zlib

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from rlds_samples import crc32c, example, frames, REAL, record, walk

from ssl_vla_ros.dataset.sources.tfrecord import Example, index_records, masked_crc, read_record
from ssl_vla_ros.errors import DatasetError

CONTENTS = (b'first', b'', b'the third record')


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Return a file of three records."""
    return write(tmp_path / 'a.tfrecord', b''.join(map(record, CONTENTS)))


def test_the_checksum_is_crc32c() -> None:
    assert crc32c(b'123456789') == 0xE3069283, 'the check value of the standard'
    crc = crc32c(b'123456789')
    assert masked_crc(b'123456789') == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_every_record_is_found_and_read(sample: Path) -> None:
    records, wrong = index_records(sample)
    assert wrong == ''
    assert [read_record(one) for one in records] == list(CONTENTS)
    assert [one.index for one in records] == [0, 1, 2]


def test_an_empty_file_has_no_record(tmp_path: Path) -> None:
    assert index_records(write(tmp_path / 'a.tfrecord', b'')) == ([], '')


def test_wherever_the_last_record_is_cut_the_others_stay(sample: Path) -> None:
    whole = sample.read_bytes()
    start = len(whole) - len(record(CONTENTS[2]))
    for end in range(start + 1, len(whole)):
        records, wrong = index_records(write(sample, whole[:end]))
        assert [read_record(one) for one in records] == list(CONTENTS[:2])
        if end < start + 12:
            assert wrong == f'record 2 at byte {start} is cut off: {end - start} bytes are there'
        else:
            assert wrong == (f'record 2 at byte {start} is cut off: it has {len(whole) - start} '
                             f'bytes, {end - start} are there')
    assert index_records(write(sample, whole[:start])) == (records, ''), 'between two records'


def test_changed_data_is_refused_by_its_record_alone(sample: Path) -> None:
    whole = bytearray(sample.read_bytes())
    whole[-6] ^= 1
    records, wrong = index_records(write(sample, bytes(whole)))
    assert (len(records), wrong) == (3, '')
    assert read_record(records[0]) == CONTENTS[0]
    with pytest.raises(DatasetError) as caught:
        read_record(records[2])
    assert str(caught.value) == f'{sample}: record 2: the data does not fit its checksum'


def test_nothing_after_a_wrong_length_is_read(sample: Path) -> None:
    whole = bytearray(sample.read_bytes())
    start = len(record(CONTENTS[0]))
    whole[start] ^= 1
    records, wrong = index_records(write(sample, bytes(whole)))
    assert [read_record(one) for one in records] == [CONTENTS[0]]
    assert wrong == (f'record 1 at byte {start} has a wrong checksum of its length: it and all '
                     'after it cannot be read')


@pytest.mark.parametrize(('pack', 'name'), [(gzip.compress, 'gzip'), (zlib.compress, 'zlib')])
def test_a_compressed_file_is_refused_by_its_compression(
    sample: Path, pack: Callable[[bytes], bytes], name: str,
) -> None:
    with pytest.raises(DatasetError) as caught:
        index_records(write(sample, pack(sample.read_bytes())))
    assert str(caught.value) == (
        f'{sample}: is compressed as a whole with {name}, so no episode in it can be found '
        'without unpacking all before it; unpack the file first')


def test_another_file_is_no_tfrecord(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.tfrecord', b'{"not": "a tfrecord file"}')
    with pytest.raises(DatasetError, match=re.escape(
            f'{path}: is no TFRecord file: the checksum of its first length is wrong')):
        index_records(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='b.tfrecord: cannot read it: No such file'):
        index_records(tmp_path / 'b.tfrecord')


def test_a_file_that_shrinks_after_it_was_indexed_is_refused(sample: Path) -> None:
    records, _ = index_records(sample)
    write(sample, sample.read_bytes()[:-8])
    with pytest.raises(DatasetError) as caught:
        read_record(records[2])
    assert str(caught.value) == (f'{sample}: record 2: has 12 of its 16 bytes: the file became '
                                 'shorter while it was read')
    sample.unlink()
    with pytest.raises(DatasetError, match='cannot read it: No such file'):
        read_record(records[0])


FEATURES = st.dictionaries(st.text(max_size=12), st.one_of(
    st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    st.lists(st.floats(width=32), min_size=1, max_size=5).map(
        lambda values: np.array(values, np.float32)),
    st.lists(st.integers(-2**63, 2**63 - 1), min_size=1, max_size=5).map(
        lambda values: np.array(values, np.int64))), max_size=6)


@settings(max_examples=100, deadline=None)
@given(FEATURES)
def test_an_example_is_read_as_it_was_written(features: dict[str, Any]) -> None:
    found = Example(example(features), 'here')
    assert list(found) == sorted(features)
    assert len(found) == len(features)
    for key, values in features.items():
        assert found.count(key) == len(values)
        assert found.kind(key) == (
            'bytes' if isinstance(values, list)
            else 'float' if values.dtype == np.float32 else 'int64')
        np.testing.assert_array_equal(np.asarray(found[key]), np.asarray(values))
    assert 'no such feature' not in found


def test_a_feature_without_a_kind_is_empty() -> None:
    bare = Example(b'\x0a\x07\x0a\x05\x0a\x01a\x12\x00', 'here')
    assert (list(bare), bare.kind('a'), bare.count('a'), bare['a']) == (['a'], '', 0, [])


def test_what_is_no_example_is_refused() -> None:
    with pytest.raises(DatasetError, match='^here: is no tf.train.Example: '):
        Example(b'\xff\xff\xff', 'here')


@pytest.mark.skipif(not REAL.is_dir(), reason=f'{REAL} is not there')
def test_the_real_records_are_what_a_walk_by_hand_finds() -> None:
    (path,) = REAL.glob('*.tfrecord-*')
    records, wrong = index_records(path)
    by_hand = list(frames(path.read_bytes()))
    assert (len(records), wrong) == (25, '')
    assert [read_record(one) for one in records] == by_hand
    for data in by_hand[::6]:
        ours, theirs = Example(data, 'here'), walk(data)
        assert set(ours) == set(theirs)
        for key, values in theirs.items():
            np.testing.assert_array_equal(np.asarray(ours[key]), np.asarray(values))
