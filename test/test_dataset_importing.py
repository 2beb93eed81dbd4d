# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Every recording of other people's robots becomes a dataset, or is refused for its reason."""

from __future__ import annotations

from pathlib import Path

from dataset_episodes import joints_message, MS, Recording, START_NS
import numpy as np
import pytest

from ssl_vla_ros.cli import main
from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.dataset.importing import import_dataset
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.errors import DatasetError

GR1 = 'lerobot_v20_gr1_pickplace/robot_sim.PickNPlace'
#: Folder; rate and task given; episodes kept and refused; rows; a word of the report.
KEPT: dict[str, tuple[int | None, str, int, int, int, str]] = {
    GR1: (None, '', 5, 0, 2096, "declares the camera 'observation.images.egoview'"),
    'rlds_widowx_bridge': (5, '', 25, 0, 267, 'image_3'),
    'videos_hand_object': (5, 'hands at work', 2, 0, 66, '1080x1440'),
    'videos_robot': (5, 'robots at work', 5, 0, 239, 'black bars'),
    'droid_franka_npz': (4, 'move', 1, 0, 2, 'there is no action'),
    'odd/corrupted_video': (10, 'a video', 1, 1, 1, 'corrupted.mp4'),
}
#: Folder; rate and task given; what the error says.
REFUSED: dict[str, tuple[int | None, str, str]] = {
    'odd/so101_frozen_lerobot_v3': (None, '', 'the arm never moves, so the recording is dead'),
    'rlds_widowx_bridge': (None, '', '--rate'),
    'videos_robot': (None, 'x', '--rate'),
    'videos_hand_object': (5, '', '--task'),
    'droid_franka_npz': (4, '', '--task'),
    'mcap_rosbag2_sensor_msgs': (None, 'x', '--contract'),
    'odd/nav2_zstd_file_bag': (None, 'x', '--contract'),
    'odd/truncated_mcap': (None, 'x', '--contract'),
    'odd/rosbag2_resources': (None, 'x', '--contract'),
    'odd': (None, 'x', 'point at one'),
}


def imported(root: Path, out: Path, rate_hz: int | None, task: str,
             contract: Contract | None = None) -> tuple[Dataset, str]:
    report = import_dataset(root, out, options=ImportOptions(
        contract=contract, rate_hz=rate_hz, task=task), encoder='libx264')
    dataset = Dataset.open(out)
    dataset.verify()
    assert (dataset.digest(), dataset.num_rows) == (report.digest, report.rows)
    return dataset, report.text()


@pytest.mark.parametrize('folder', KEPT)
def test_it_is_kept(shared_data: Path, tmp_path: Path, folder: str) -> None:
    rate_hz, task, kept, refused, rows, word = KEPT[folder]
    dataset, text = imported(shared_data / folder, tmp_path / 'out', rate_hz, task)
    assert dataset.num_episodes == kept
    assert dataset.num_rows == rows
    assert text.count('refused: ') == refused
    assert word in text
    for episode in range(dataset.num_episodes):
        for camera in dataset.camera_names:
            frames = dataset.frames(camera, episode)
            assert len(frames) == dataset.lengths[episode]
            assert frames.std() > 1.0


@pytest.mark.parametrize('folder', REFUSED)
def test_it_is_refused(shared_data: Path, tmp_path: Path, folder: str) -> None:
    rate_hz, task, words = REFUSED[folder]
    with pytest.raises(DatasetError, match=words):
        imported(shared_data / folder, tmp_path / 'out', rate_hz, task)
    assert not (tmp_path / 'out').exists()


def test_a_bag_of_others_becomes_a_dataset_through_a_contract(
        shared_data: Path, tmp_path: Path) -> None:
    contract = parse_contract({
        'robot': 'real', 'rate_hz': 10, 'cameras': {}, 'action': [],
        'state': [{'topic': 'joint_state', 'type': 'sensor_msgs/JointState',
                   'names': ['wrist_joint', 'shoulder_joint']}],
        'sync': {'max_skew_s': 0.3}}, 'real.yaml')
    dataset, _ = imported(
        shared_data / 'mcap_rosbag2_sensor_msgs', tmp_path / 'out', None, 'wave', contract)
    assert dataset.camera_names == ()
    assert dataset.column('observation.state').shape == (dataset.num_rows, 2)
    assert np.ptp(dataset.column('observation.state')) > 0


def test_an_import_of_an_own_dataset_is_the_same_rows(tmp_path: Path) -> None:
    for ticks in (10, 14):
        Recording.regular(ticks).write(tmp_path / 'session')
    build_dataset(tmp_path / 'session', tmp_path / 'own')
    dataset, _ = imported(tmp_path / 'own', tmp_path / 'out', None, '')
    own = Dataset.open(tmp_path / 'own')
    for name in own.column_names:
        np.testing.assert_array_equal(dataset.column(name), own.column(name))
    assert dataset.contract.digest() == own.contract.digest()


def test_a_dead_episode_is_refused_and_taken_when_told_so(tmp_path: Path) -> None:
    Recording.regular(30).write(tmp_path / 'session')
    dead = Recording.regular(30)
    dead.messages = [item for item in dead.messages if item[1] != 'joint_states']
    dead.messages += [(START_NS + step * 10 * MS, 'joint_states',
                       joints_message(START_NS + step * 10 * MS, [0.5, -0.5]))
                      for step in range(-1, 150)]
    dead.write(tmp_path / 'session')
    report = build_dataset(tmp_path / 'session', tmp_path / 'out')
    (refused,) = report.refused
    assert 'the arm never moves' in refused.reason
    assert '--keep-constant' in refused.reason
    assert Dataset.open(tmp_path / 'out').num_episodes == 1
    build_dataset(tmp_path / 'session', tmp_path / 'all', keep_constant=True)
    assert Dataset.open(tmp_path / 'all').num_episodes == 2
    # Told otherwise now: what the dataset had is not kept, and that is not said in passing.
    report = build_dataset(tmp_path / 'session', tmp_path / 'all')
    assert report.dropped == ('session/episode_000001',)
    assert 'NOT IN IT ANY MORE, for the reasons below: session/episode_000001' in report.text()
    assert report.refused[0].reason == refused.reason
    assert Dataset.open(tmp_path / 'all').digest() == Dataset.open(tmp_path / 'out').digest()
    again = build_dataset(tmp_path / 'session', tmp_path / 'all', keep_constant=True)
    assert [item.reused for item in again.kept] == [True, False]
    assert again.dropped == ()


def test_the_command_says_what_it_did_and_what_comes_next(
        shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out'
    words = ['dataset', 'import', str(shared_data / 'droid_franka_npz'), str(out), '--rate', '4']
    assert main([*words, '--task', 'move the cup', '--workers', '1']) == 0
    text = capsys.readouterr().out
    assert 'kept 1 of 1 episodes, 2 rows' in text
    assert f'--data {out}' in text
    assert main([*words, '--task', 'move the cup']) == 2
    assert 'exists already' in capsys.readouterr().err
