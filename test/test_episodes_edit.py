# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Relabel, trim, delete, merge: what they change, what they leave, what they refuse."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import fcntl
import hashlib
import json
import os
from pathlib import Path
import shutil
from typing import Any

from episode_samples import (
    all_written, fill, GRIPPER, gripper_cdr, IMAGE, JOINTS, need_message_packages, open_writer,
    sample_contract)
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import Reader

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.episodes import transaction
from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.edit import delete, Edit, relabel
from ssl_vla_ros.episodes.edit_merge import merge
from ssl_vla_ros.episodes.edit_select import ranges, select
from ssl_vla_ros.episodes.edit_trim import trim
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import ContractError, EpisodeError, UserError

TICKS = 20
TOLD: Callable[[int, int, str], None] = lambda done, total, what: None  # noqa: E731


@pytest.fixture(autouse=True)
def message_packages() -> None:
    need_message_packages()


def record(session: Path, count: int = 1, start_ns: int = 10**9, **how: Any) -> None:
    """Record episodes of one second; each is another one."""
    for episode in range(count):
        writer = open_writer(session, operator='ann')
        fill(writer, TICKS, np.random.default_rng(start_ns + episode),
             start_ns + episode * 10**10)
        writer.close(all_written(writer), success=True, **how)


def photograph(place: Path) -> dict[str, str]:
    """Digest every file below a directory, and list every directory."""
    return {str(path.relative_to(place)):
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 'directory'
            for path in sorted(place.rglob('*'))}


def info_of(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((path / 'episode.json').read_text())
    return data


def names(session: Path) -> list[str]:
    return [path.name for path in list_episodes(session)]


# -- which episodes ----------------------------------------------------------------------------


def test_numbers_ranges_and_all_are_understood(tmp_path: Path) -> None:
    record(tmp_path, 6)
    assert list(select(tmp_path, '4,0-2,1')) == [0, 1, 2, 4]
    assert list(select(tmp_path, ' all ')) == [0, 1, 2, 3, 4, 5]
    assert ranges([0, 1, 2, 4, 7, 8]) == '0-2,4,7-8'


@pytest.mark.parametrize(('text', 'sentence'), [
    ('99', 'there is no episode 99; it has 0-1,3'),
    ('0,99', 'there is no episode 99; it has 0-1,3'),
    ('0-1000000000000', 'there is no episode 1000000000000; it has 0-1,3'),
    ('0-3', 'there is no episode 2 (it was discarded or deleted); it has 0-1,3'),
    ('1-0', "'1-0' are no episode numbers; write them as 3,5-9, or all"),
    ('-1', "'-1' are no episode numbers"), ('', "'' are no episode numbers"),
    ('one', "'one' are no episode numbers"), ('0,,1', "'0,,1' are no episode numbers"),
])
@pytest.mark.parametrize('command', ['relabel', 'trim', 'delete', 'purge'])
def test_a_wrong_number_is_an_error_before_anything_is_touched(
        tmp_path: Path, text: str, sentence: str, command: str) -> None:
    record(tmp_path, 4)
    delete(tmp_path, '2').apply(TOLD)
    before = photograph(tmp_path)
    with pytest.raises(EpisodeError) as error:
        {'relabel': lambda: relabel(tmp_path, text, task='x'),
         'trim': lambda: trim(tmp_path, text, start_s=0.1),
         'delete': lambda: delete(tmp_path, text),
         'purge': lambda: delete(tmp_path, text, purge=True)}[command]()
    assert sentence in str(error.value)
    assert photograph(tmp_path) == before


def test_an_episode_that_a_live_recorder_holds_is_refused(tmp_path: Path) -> None:
    record(tmp_path)
    writer = open_writer(tmp_path)
    fill(writer, 3, np.random.default_rng(1))
    with pytest.raises(EpisodeError, match='episode 1 is being recorded; stop the recorder first'):
        delete(tmp_path, '1')
    with pytest.raises(EpisodeError, match='episode 1 is not finished; stop the recorder that '
                       'writes it, or run `ssl_vla episodes recover'):
        merge([tmp_path], tmp_path.parent / 'other')
    delete(tmp_path, 'all').apply(TOLD)          # all that is finished
    assert names(tmp_path) == []
    writer.sync()
    writer.abandon()
    with pytest.raises(EpisodeError, match='episode 1 was not finished, because its recorder was '
                       'killed; run `ssl_vla episodes recover'):
        relabel(tmp_path, '1', task='x')
    found, = recover_session(tmp_path)
    assert found.messages == 9


def test_a_finished_episode_is_refused_while_its_recorder_holds_it(tmp_path: Path) -> None:
    """From the last rename to the release of its lock."""
    record(tmp_path)
    planned = relabel(tmp_path, '0', task='x')
    lock = tmp_path / '.episode_000000.lock'
    with lock.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = photograph(tmp_path)
        with pytest.raises(EpisodeError, match='episode 0 is held by a live recorder'):
            planned.apply(TOLD)
        assert photograph(tmp_path) == before
        with pytest.raises(EpisodeError, match='episode 0 is held by a live recorder'):
            trim(tmp_path, '0', start_s=0.2)
    delete(tmp_path, '0').apply(TOLD)            # a lock that nobody holds is none
    assert names(tmp_path) == []


def test_two_edits_at_a_time_are_one_too_many(tmp_path: Path) -> None:
    record(tmp_path)
    edit = relabel(tmp_path, '0', task='x')
    with transaction.Transaction.begin(tmp_path, 'other'), \
            pytest.raises(EpisodeError, match='another process edits this session'):
        edit.apply(TOLD)
    edit.apply(TOLD)
    assert info_of(tmp_path / 'episode_000000')['task'] == 'x'


def test_settling_leaves_a_live_edit_alone(tmp_path: Path) -> None:
    """A recorder that starts meanwhile must neither stop nor take its files away."""
    record(tmp_path)
    with transaction.Transaction.begin(tmp_path, 'other') as change:
        (change.staging / 'file').touch()
        assert transaction.settle(tmp_path) == ''
        assert (change.staging / 'file').is_file()
    (tmp_path / '.edit').mkdir()
    assert transaction.settle(tmp_path) == (
        'removed what an interrupted edit had prepared; nothing was changed')
    assert transaction.settle(tmp_path) == ''


# -- relabel -----------------------------------------------------------------------------------


def test_relabel_changes_words_alone_and_notes_what_was(tmp_path: Path) -> None:
    record(tmp_path, 3)
    before = photograph(tmp_path)
    was = info_of(tmp_path / 'episode_000001')
    edit = relabel(tmp_path, '0-1', task='push', success='unknown', operator='bob')
    assert edit.lines[1] == (
        "episode_000001: task 'lift' -> 'push', operator 'ann' -> 'bob', "
        'success success -> unknown')
    assert photograph(tmp_path) == before        # looking changes nothing
    edit.apply(TOLD)
    after = photograph(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {
        'episode_000000/episode.json', 'episode_000001/episode.json'}
    assert before.keys() == after.keys()
    now = info_of(tmp_path / 'episode_000001')
    entry, = now.pop('edits')
    assert now == was | {'task': 'push', 'success': None, 'operator': 'bob'}
    assert (entry['operation'], entry['was']) == (
        'relabel', {'task': 'lift', 'operator': 'ann', 'success': True})
    relabel(tmp_path, '1', success='no').apply(TOLD)
    assert [entry['operation'] for entry in info_of(tmp_path / 'episode_000001')['edits']] == [
        'relabel', 'relabel']


def test_relabel_leaves_what_says_it_already(tmp_path: Path) -> None:
    record(tmp_path, 2)
    relabel(tmp_path, '0', task='push').apply(TOLD)
    edit = relabel(tmp_path, 'all', task='push')
    assert [line.partition(':')[0] for line in edit.lines] == ['episode_000001']
    edit.apply(TOLD)
    assert relabel(tmp_path, 'all', task='push').lines == ()


@pytest.mark.parametrize(('how', 'sentence'), [
    ({}, 'nothing is to be changed: give --task, --success or --operator'),
    ({'task': ' '}, '--task is empty'),
    ({'success': 'maybe'}, "--success is 'maybe', must be one of yes, no, unknown")])
def test_relabel_refuses_what_says_nothing(
        tmp_path: Path, how: dict[str, str], sentence: str) -> None:
    record(tmp_path)
    with pytest.raises(EpisodeError, match=sentence):
        relabel(tmp_path, '0', **how)


# -- delete ------------------------------------------------------------------------------------


def test_delete_moves_an_episode_whole_and_its_number_never_comes_back(tmp_path: Path) -> None:
    record(tmp_path, 3)
    before = photograph(tmp_path / 'episode_000002')
    edit = delete(tmp_path, '2')
    assert edit.lines == (
        "episode_000002: complete, 0.9 s, 60 messages, 'lift': moved to discarded/episode_000002",)
    assert names(tmp_path) == ['episode_000000', 'episode_000001', 'episode_000002']
    edit.apply(TOLD)
    assert names(tmp_path) == ['episode_000000', 'episode_000001']
    assert photograph(tmp_path / 'discarded' / 'episode_000002') == before
    (tmp_path / '.next_episode').unlink()        # as after a copy without hidden files
    record(tmp_path)
    assert names(tmp_path)[-1] == 'episode_000003'
    # Brought back by hand, it is what it was.
    (tmp_path / 'discarded' / 'episode_000002').rename(tmp_path / 'episode_000002')
    assert len(list(Episode.open(tmp_path / 'episode_000002').raw())) == 60


def test_purge_deletes_the_messages_and_keeps_number_and_books(tmp_path: Path) -> None:
    record(tmp_path, 2)
    counts = info_of(tmp_path / 'episode_000001')['counts']
    edit = delete(tmp_path, '1', purge=True)
    assert edit.lines[0].endswith('messages deleted for good')
    edit.apply(TOLD)
    assert names(tmp_path) == ['episode_000000']
    assert sorted(photograph(tmp_path / 'discarded')) == [
        'episode_000001', 'episode_000001/episode.json']
    left = info_of(tmp_path / 'discarded' / 'episode_000001')
    assert (left['status'], left['counts']) == ('discarded', counts)
    assert not list(tmp_path.glob('.edit*'))
    (tmp_path / '.next_episode').unlink()
    record(tmp_path)
    assert names(tmp_path)[-1] == 'episode_000002'


def test_an_unreadable_episode_can_be_deleted(tmp_path: Path) -> None:
    record(tmp_path, 2)
    for number in (0, 1):
        (tmp_path / f'episode_00000{number}' / 'episode.json').write_text('{')
    assert 'unreadable (' in delete(tmp_path, '0').lines[0]
    delete(tmp_path, '0').apply(TOLD)
    delete(tmp_path, '1', purge=True).apply(TOLD)
    assert names(tmp_path) == []
    assert info_of(tmp_path / 'discarded' / 'episode_000001')['episode'] == 1


def test_nothing_in_the_trash_is_ever_overwritten(tmp_path: Path) -> None:
    record(tmp_path)
    shutil.copytree(tmp_path / 'episode_000000', tmp_path / 'discarded' / 'episode_000000')
    before = photograph(tmp_path)
    with pytest.raises(EpisodeError, match='discarded/episode_000000: exists already'):
        delete(tmp_path, '0').apply(TOLD)
    assert photograph(tmp_path) == before


# -- trim --------------------------------------------------------------------------------------


def test_trim_keeps_every_byte_of_what_stays(tmp_path: Path) -> None:
    record(tmp_path, 2)
    path = tmp_path / 'episode_000000'
    (path / 'notes.txt').write_text('the cup slipped')
    wanted = list(Episode.open(path).raw())
    origin = wanted[0].log_time_ns
    wanted = [item for item in wanted
              if origin + 200_000_000 <= item.log_time_ns <= origin + 700_000_000]
    before = photograph(tmp_path)
    edit = trim(tmp_path, '0', start_s=0.2, end_s=0.7)
    assert edit.lines == (
        'episode_000000: 0.5 s and 31 messages stay, 29 are cut; the episode as it was is kept in '
        'discarded',)
    assert photograph(tmp_path) == before
    edit.apply(TOLD)
    episode = Episode.open(path)
    assert list(episode.raw()) == wanted
    assert (path / 'notes.txt').read_text() == 'the cup slipped'
    for topic, account in episode.accounts.items():
        count = sum(item.topic == topic for item in wanted)
        assert account == TopicAccount(published=count, written=count)
    assert episode.info['first_stamp_ns'] == 10**9 + 200_000_000
    assert episode.info['duration_s'] == pytest.approx(0.5)
    entry, = episode.info['edits']
    assert entry['cut'] == {IMAGE: 9, JOINTS: 10, GRIPPER: 10}
    assert entry['was']['duration_s'] == pytest.approx(0.95)
    assert photograph(tmp_path / 'episode_000001') == {
        name.partition('/')[2]: digest for name, digest in before.items()
        if name.startswith('episode_000001/')}
    assert photograph(tmp_path / 'discarded' / 'episode_000000.untrimmed') == {
        name.partition('/')[2]: digest for name, digest in before.items()
        if name.startswith('episode_000000/')}
    with AnyReader([path]) as reader:            # an independent reader, metadata.yaml and all
        assert reader.message_count == len(wanted)


def test_trim_twice_and_purge(tmp_path: Path) -> None:
    record(tmp_path)
    trim(tmp_path, '0', start_s=0.2).apply(TOLD)
    trim(tmp_path, '0', end_s=0.5).apply(TOLD)
    assert sorted(path.name for path in (tmp_path / 'discarded').iterdir()) == [
        'episode_000000.untrimmed', 'episode_000000.untrimmed2']
    edit = trim(tmp_path, '0', start_s=0.2, purge=True)
    assert edit.lines[0].endswith('the episode as it was is deleted for good')
    edit.apply(TOLD)
    assert len(list((tmp_path / 'discarded').iterdir())) == 2
    info = info_of(tmp_path / 'episode_000000')
    assert [entry['operation'] for entry in info['edits']] == ['trim'] * 3
    # What was published is what is left and what the edits say.
    cut = sum(entry['cut'][IMAGE] for entry in info['edits'])
    assert info['counts'][IMAGE]['published'] + cut == TICKS


@pytest.mark.parametrize('compression', ['zstd', 'lz4', 'none'])
def test_trim_keeps_the_compression_and_the_contract_in_the_bag(
        tmp_path: Path, compression: str) -> None:
    from mcap.reader import make_reader
    writer = open_writer(tmp_path, compression=compression)
    fill(writer, TICKS, np.random.default_rng(0))
    path = writer.close(all_written(writer))

    def look() -> tuple[set[str], list[Any]]:
        with (path / 'episode_000000_0.mcap').open('rb') as stream:
            reader = make_reader(stream)
            summary = reader.get_summary()
            assert summary is not None
            return ({index.compression for index in summary.chunk_indexes},
                    [record.metadata for record in reader.iter_metadata()])
    before = look()
    trim(tmp_path, '0', end_s=0.5).apply(TOLD)
    assert look() == before
    assert before[0] == {'' if compression == 'none' else compression}


def test_what_was_lost_stays_in_the_books_and_makes_them_vague(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    fill(writer, TICKS, np.random.default_rng(0))
    accounts = all_written(writer)
    accounts[IMAGE].published += 3
    accounts[IMAGE].lost += 2
    accounts[IMAGE].reject('zero_stamp')
    path = writer.close(accounts)
    trim(tmp_path, '0', start_s=0.5).apply(TOLD)
    found = Episode.open(path).accounts
    assert found[IMAGE] == TopicAccount(
        published=13, written=10, lost=2, rejected=1, rejected_by_cause={'zero_stamp': 1},
        published_exact=False)
    assert found[IMAGE].balanced
    assert found[JOINTS] == TopicAccount(published=10, written=10)


@pytest.mark.parametrize(('how', 'sentence'), [
    ({}, 'nothing is to be cut: give --start or --end'),
    ({'start_s': -1.0}, '--start is -1: seconds count from the first message and cannot be'),
    ({'start_s': 0.5, 'end_s': 0.5}, '--start is 0.5 and --end is 0.5: both count from'),
    ({'start_s': 5.0}, 'nothing of camera/front/image_raw would be left between 5 s and the end; '
     'it lasts 1.0 s'),
    ({'start_s': float('nan')}, '--start is nan'),
])
def test_a_cut_that_leaves_no_episode_is_refused(
        tmp_path: Path, how: dict[str, float], sentence: str) -> None:
    record(tmp_path)
    before = photograph(tmp_path)
    with pytest.raises(EpisodeError, match=sentence):
        trim(tmp_path, '0', **how)
    assert photograph(tmp_path) == before


def test_a_cut_that_takes_nothing_changes_nothing(tmp_path: Path) -> None:
    record(tmp_path)
    assert trim(tmp_path, '0', start_s=0.0, end_s=100.0).lines == ()


def test_latched_messages_of_before_the_cut_stay(tmp_path: Path) -> None:
    data = sample_contract().to_dict() | {'extra': [
        {'topic': 'tf_static', 'type': 'std_msgs/Float64MultiArray',
         'durability': 'transient_local'}]}
    contract = parse_contract(data, 'latched')
    writer = EpisodeWriter(tmp_path, contract, task='lift', topics=contract.topics())
    # Sent long before the episode, as tf_static is.
    writer.write('tf_static', gripper_cdr(7.0), 5, 5)
    fill(writer, TICKS, np.random.default_rng(0))
    # And once more when everything else has ended: a cut at the start must not take it.
    writer.write('tf_static', gripper_cdr(8.0), 10**11, 10**11)
    path = writer.close(all_written(writer))
    edit = trim(tmp_path, '0', start_s=0.5)
    assert '30 are cut' in edit.lines[0]
    edit.apply(TOLD)
    first, *others, last = Episode.open(path).raw()
    assert (last.topic, last.data) == ('tf_static', gripper_cdr(8.0))
    with Reader(path) as bag:
        profiles = {item.topic: item.ext.offered_qos_profiles for item in bag.connections}
    assert profiles['/tf_static'][0].durability is QosDurability.TRANSIENT_LOCAL
    assert profiles['/tf_static'][0].reliability is QosReliability.RELIABLE
    assert all(not found for topic, found in profiles.items() if topic != '/tf_static')
    assert (first.topic, first.data, first.publish_time_ns) == ('tf_static', gripper_cdr(7.0), 5)
    assert first.log_time_ns == 10**9 + 1000 + 500_000_000 <= others[0].log_time_ns
    entry, = info_of(path)['edits']
    assert (entry['carried'], entry['cut']['tf_static']) == (1, 0)


def test_a_bag_that_comes_out_wrong_changes_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk or memory that alters bytes is caught before the old bag goes."""
    from ssl_vla_ros.episodes import bag
    record(tmp_path)
    before = photograph(tmp_path)
    edit = trim(tmp_path, '0', start_s=0.2)
    write = bag.BagFile.write

    def altered(self: bag.BagFile, topic: str, cdr: bytes, log: int, publish: int) -> None:
        write(self, topic, cdr[:-1] + bytes([cdr[-1] ^ 1]), log, publish)
    monkeypatch.setattr(bag.BagFile, 'write', altered)
    with pytest.raises(EpisodeError, match='what was written is not what was read'):
        edit.apply(TOLD)
    assert photograph(tmp_path) == before


# -- merge -------------------------------------------------------------------------------------


def test_merge_copies_bags_bit_by_bit_under_new_numbers(tmp_path: Path) -> None:
    one, two, out = (tmp_path / name for name in ('one', 'two', 'out'))
    record(one, 2)
    record(two, 1, 10**12)
    before = photograph(one) | {f'two/{name}': digest for name, digest in photograph(two).items()}
    edit = merge([two, one], out)
    assert edit.lines == (
        f'{two}/episode_000000 -> {out}/episode_000000',
        f'{one}/episode_000000 -> {out}/episode_000001',
        f'{one}/episode_000001 -> {out}/episode_000002')
    assert not out.exists()
    edit.apply(TOLD)
    assert names(out) == ['episode_000000', 'episode_000001', 'episode_000002']
    assert before == photograph(one) | {
        f'two/{name}': digest for name, digest in photograph(two).items()}
    for number, source in enumerate([two / 'episode_000000', one / 'episode_000000',
                                     one / 'episode_000001']):
        path = out / f'episode_00000{number}'
        old, = source.glob('*.mcap')
        assert (path / f'{path.name}_0.mcap').read_bytes() == old.read_bytes()
        now, was = info_of(path), info_of(source)
        entry, = now.pop('edits')
        assert now == was | {'episode': number}
        assert (entry['source'], entry['episode']) == (
            str(source.parent.resolve()), was['episode'])
        with AnyReader([path]) as reader:
            assert reader.message_count == 60
    assert not list(out.glob('.edit*')) and not list(out.glob('*.lock'))
    record(out)
    assert names(out)[-1] == 'episode_000003'


def test_merge_into_a_session_gives_no_number_twice(tmp_path: Path) -> None:
    one, out = tmp_path / 'one', tmp_path / 'out'
    record(one, 2)
    record(out, 3, 10**12)
    delete(out, '2', purge=True).apply(TOLD)
    live = open_writer(out)                      # a recorder that is at work in it: number 3
    merge([one], out).apply(TOLD)
    assert names(out) == ['episode_000000', 'episode_000001', 'episode_000004', 'episode_000005']
    fill(live, 3, np.random.default_rng(0))
    assert live.close(all_written(live)).name == 'episode_000003'


def test_parts_of_one_recording_still_name_each_other(tmp_path: Path) -> None:
    one, two, out = (tmp_path / name for name in ('one', 'two', 'out'))
    record(one, 1, 10**12)
    record(two, 1, extra={'goes_on_in': 'episode_000001', 'part': 1})
    record(two, 1, 10**13, extra={'continues': 'episode_000000', 'part': 2})
    merge([one, two], out).apply(TOLD)
    assert info_of(out / 'episode_000001')['extra']['goes_on_in'] == 'episode_000002'
    assert info_of(out / 'episode_000002')['extra']['continues'] == 'episode_000001'


def test_merge_refuses_what_does_not_belong_together(tmp_path: Path) -> None:
    one, two, out, empty = (tmp_path / name for name in ('one', 'two', 'out', 'empty'))
    record(one)
    record(two, 1, 10**12)
    empty.mkdir()

    def refused(sources: list[Path], sentence: str, kind: type[UserError] = EpisodeError) -> None:
        before = photograph(tmp_path)
        with pytest.raises(kind, match=sentence):
            merge(sources, out)
        assert photograph(tmp_path) == before
    refused([one, one], 'one: is given twice')
    refused([one, out], 'out: is given twice')
    refused([one, empty], 'empty: there is no finished episode')
    refused([one, tmp_path / 'tow'], 'tow: no such session directory')
    shutil.copytree(two, tmp_path / 'copy')
    refused([two, tmp_path / 'copy'],
            'copy/episode_000000: is the same recording as .*two/episode_000000')
    contract = dataclasses.replace(sample_contract(), rate_hz=50)
    writer = EpisodeWriter(tmp_path / 'fast', contract, task='x', topics=contract.topics())
    fill(writer, 3, np.random.default_rng(0), 10**14)
    writer.close(all_written(writer))
    refused([one, tmp_path / 'fast'], 'rate_hz: 20, was 50', ContractError)
    (two / 'episode_000000' / 'episode.json').write_text('[]')
    refused([one, two], 'must hold a mapping')


def test_recordings_with_the_same_stamps_are_not_the_same(tmp_path: Path) -> None:
    """A simulation begins at zero each time."""
    for name, seed in (('one', 1), ('two', 2)):
        writer = open_writer(tmp_path / name)
        fill(writer, 3, np.random.default_rng(seed))
        writer.close(all_written(writer))
    merge([tmp_path / 'one', tmp_path / 'two'], tmp_path / 'out').apply(TOLD)
    assert len(names(tmp_path / 'out')) == 2


def test_merge_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / 'one')
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=1000))
    with pytest.raises(EpisodeError, match='MB are needed and 0.0 MB are free; make room'):
        merge([tmp_path / 'one'], tmp_path / 'out').apply(TOLD)
    assert not (tmp_path / 'out').exists()


def test_an_edit_that_is_no_longer_possible_changes_nothing(tmp_path: Path) -> None:
    record(tmp_path, 2)
    edits: list[Edit] = [delete(tmp_path, 'all'), trim(tmp_path, 'all', start_s=0.2),
                         relabel(tmp_path, 'all', task='x')]
    shutil.rmtree(tmp_path / 'episode_000001')
    before = photograph(tmp_path)
    for edit in edits:
        with pytest.raises(EpisodeError):
            edit.apply(TOLD)
        assert photograph(tmp_path) == before


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, 2)
    before = photograph(tmp_path)
    edits = [relabel(tmp_path, 'all', task='x'), trim(tmp_path, 'all', start_s=0.2)]

    def full(descriptor: int) -> None:
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)
    for edit in edits:
        with pytest.raises(EpisodeError, match='No space left on device; nothing was changed'):
            edit.apply(TOLD)
        assert photograph(tmp_path) == before
