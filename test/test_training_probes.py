# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Probes: known ranks and fits, collapse flagged, and only training rows fitted."""

from __future__ import annotations

from collections.abc import Callable
import json
import math
from pathlib import Path
import time

import numpy as np
import pytest
from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter
from ssl_vla_ros.training.compare import format_table, pixel_components, probe_table
from ssl_vla_ros.training.probes import (
    choose_strength, effective_rank, mlp_r2, probe, ProbeResult, rank_me, ridge_r2,
    temporal_retrieval)
from ssl_vla_ros.training.train import train
from tiny_training import draw, PERIOD_NS, SIZE, small_config, toy_contract, walk, write_toy
import torch

TRAIN, TEST = np.arange(200), np.arange(200, 300)
EPISODES = np.arange(300) // 20


def targets() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 2))


def test_rank_me_of_known_matrices() -> None:
    assert rank_me(np.eye(8)) == pytest.approx(8.0, rel=1e-4)
    assert rank_me(np.outer(np.arange(1.0, 9.0), np.ones(5))) == pytest.approx(1.0, rel=1e-4)
    assert rank_me(np.zeros((4, 3))) == 0.0
    # Singular values 3 and 1: shares 3/4 and 1/4.
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert rank_me(np.diag([3.0, 1.0])) == pytest.approx(np.exp(entropy), rel=1e-4)


def test_effective_rank_of_known_matrices() -> None:
    rng = np.random.default_rng(0)
    line = np.outer(rng.normal(size=40), rng.normal(size=6))
    assert effective_rank(line) == pytest.approx(1.0, rel=1e-4)
    # Singular values 3 and 1 of centred columns.
    columns = np.linalg.qr(rng.normal(size=(40, 2)) - [[0.0, 0.0]])[0]
    columns = np.linalg.qr(columns - columns.mean(axis=0))[0]
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert effective_rank(columns * [3.0, 1.0]) == pytest.approx(np.exp(entropy), rel=1e-4)
    cloud = rng.normal(size=(4000, 8))
    assert effective_rank(cloud) == pytest.approx(8.0, rel=1e-2)
    assert effective_rank(cloud[:5]) <= 4.0 + 1e-6, 'five centred rows span four directions'


def test_an_offset_hides_a_collapse_from_rank_me_and_not_from_the_effective_rank() -> None:
    line = np.outer(np.random.default_rng(0).normal(size=300), np.arange(1.0, 9.0))
    offset = 10.0 * np.random.default_rng(1).normal(size=8)
    assert rank_me(line + offset) > 1.5
    assert effective_rank(line + offset) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize('rows', [
    np.zeros((20, 3)), np.full((20, 3), 0.3),
    (1.0 + 1e-8 * np.random.default_rng(0).normal(size=(20, 3))).astype(np.float32).astype(float)])
def test_features_that_vary_by_rounding_alone_have_no_rank(rows: np.ndarray) -> None:
    assert effective_rank(rows) == 0.0


def test_ranks_agree_with_the_singular_values_of_wide_and_tall_matrices() -> None:
    for shape in ((40, 90), (90, 40)):
        rows = np.random.default_rng(2).normal(size=shape) * np.geomspace(1.0, 1e-3, shape[1])
        values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
        share = values[values > 1e-12] / values.sum()
        wanted = np.exp(-(share * np.log(share)).sum())
        assert effective_rank(rows) == pytest.approx(wanted, rel=1e-5)


def test_informative_features_are_not_called_collapsed() -> None:
    wanted = targets()
    features = np.c_[wanted @ [[1.0, 2.0], [0.5, -1.0]],
                     np.random.default_rng(1).normal(size=(300, 3))]
    result = probe(features, wanted, TRAIN, TEST, ['a', 'b'])
    assert result.r2['a'] > 0.99
    assert result.r2['b'] > 0.99
    assert not result.collapsed


@pytest.mark.parametrize('features', [
    np.full((300, 4), 0.3),
    1e-7 * targets() + 0.5,
    np.random.default_rng(2).normal(size=(300, 4)),
])
def test_constant_and_uninformative_features_are_called_collapsed(features: np.ndarray) -> None:
    assert probe(features, targets(), TRAIN, TEST, ['a', 'b']).collapsed


@pytest.mark.parametrize(('features', 'cause'), [
    (np.full((300, 4), 0.3), 'constant'),
    (targets()[:, :1] * np.ones((1, 4)), 'rank'),
    (np.random.default_rng(2).normal(size=(300, 4)), 'unreadable'),
])
def test_the_reason_of_a_collapse_is_told(features: np.ndarray, cause: str) -> None:
    result = probe(features, targets(), TRAIN, TEST, ['a', 'b'])
    assert list(result.causes()) == [cause]
    assert result.reasons() == list(result.causes().values())
    assert result.collapsed
    healthy = probe(targets() @ np.random.default_rng(3).normal(size=(2, 4)), targets(), TRAIN,
                    TEST, ['a', 'b'])
    assert healthy.reasons() == []


def test_two_features_of_rank_one_are_no_collapse() -> None:
    """A robot of one joint has no more to tell."""
    wanted = targets()[:, :1]
    assert not probe(wanted @ [[1.0, 2.0]], wanted, TRAIN, TEST, ['a']).collapsed
    assert probe(wanted @ [[1.0, 2.0, 3.0]], wanted, TRAIN, TEST, ['a']).collapsed


def test_one_target_of_two_that_can_be_read_is_no_collapse() -> None:
    features = np.random.default_rng(2).normal(size=(300, 4))
    features[:, 0] = targets()[:, 0]
    result = probe(features, targets(), TRAIN, TEST, ['a', 'b'])
    assert result.r2['b'] < 0.05 < result.r2['a']
    assert not result.collapsed


def fit_ridge(features: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    return ridge_r2(features, wanted, TRAIN, TEST, ['a', 'b'])


def fit_mlp(features: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    return mlp_r2(features, wanted, TRAIN, TEST, ['a', 'b'], EPISODES,
                  torch.Generator().manual_seed(0))


@pytest.mark.parametrize('fit', [fit_ridge, fit_mlp])
def test_the_fit_sees_training_rows_alone(
        fit: Callable[[np.ndarray, np.ndarray], dict[str, float]]) -> None:
    wanted = targets()
    features = wanted + 0.01
    changed = wanted.copy()
    changed[TEST] = -changed[TEST]
    before, after = fit(features, wanted), fit(features, changed)
    assert before['a'] > 0.95
    assert after['a'] < -2.0, 'what the test rows say must not have been fitted'


def test_wide_features_are_fitted_as_narrow_ones_are() -> None:
    """More features than rows: the smaller system must give the same weights."""
    rng = np.random.default_rng(4)
    wanted, features = targets(), rng.normal(size=(300, 500))
    features[:, :2] += 3.0 * wanted
    mean, std = features[TRAIN].mean(axis=0), features[TRAIN].std(axis=0) + 1e-8
    design = np.c_[(features - mean) / std, np.ones(300)]
    penalty = np.diag([1.0] * 500 + [0.0])
    weights = np.linalg.solve(design[TRAIN].T @ design[TRAIN] + penalty,
                              design[TRAIN].T @ wanted[TRAIN])
    error = np.square(design[TEST] @ weights - wanted[TEST]).sum(axis=0)
    spread = np.square(wanted[TEST] - wanted[TEST].mean(axis=0)).sum(axis=0)
    found = ridge_r2(features, wanted, TRAIN, TEST, ['a', 'b'])
    np.testing.assert_allclose(list(found.values()), 1.0 - error / spread, rtol=1e-6)


def test_as_many_features_as_rows_do_not_look_collapsed() -> None:
    """The worst width for a weak penalty: it fits the noise of the training rows."""
    rng = np.random.default_rng(11)
    wanted, features = rng.normal(size=(300, 2)), rng.normal(size=(300, 200))
    features += 0.15 * wanted @ rng.normal(size=(2, 200))
    weak = probe(features, wanted, TRAIN, TEST, ['a', 'b'])
    chosen = probe(features, wanted, TRAIN, TEST, ['a', 'b'], episodes=EPISODES, whole=False)
    assert weak.mean_r2 < 0.0
    assert list(weak.causes()) == ['unreadable'], 'what the choice is there to prevent'
    assert chosen.mean_r2 > 0.6
    assert not chosen.collapsed
    assert chosen.mlp_r2 == {}
    assert math.isnan(chosen.retrieval)


def test_the_penalty_is_chosen_by_training_rows_alone() -> None:
    rng = np.random.default_rng(12)

    def choice(features: np.ndarray, wanted: np.ndarray) -> float:
        return choose_strength(
            features, wanted, TRAIN, EPISODES, torch.Generator().manual_seed(0))
    wanted, clean = rng.normal(size=(300, 2)), rng.normal(size=(300, 6))
    clean[:, :2] += wanted
    noisy = rng.normal(size=(300, 200)) + wanted @ rng.normal(size=(2, 200))
    clean[:, 2:4] -= clean[:, :2] - 2.0 * wanted
    assert choice(clean, wanted) < choice(noisy, wanted)
    changed = wanted.copy()
    changed[TEST] *= -5.0
    noise = noisy.copy()
    noise[TEST] = rng.normal(size=(100, 200))
    assert choice(noise, changed) == choice(noisy, wanted)


def test_an_mlp_reads_what_is_there_but_not_linear() -> None:
    rng = np.random.default_rng(5)
    angle = rng.uniform(-np.pi, np.pi, 1500)
    features = np.c_[np.cos(angle), np.sin(angle)] @ rng.normal(size=(2, 16))
    wanted = np.c_[np.cos(2.0 * angle), rng.normal(size=1500)]
    train, test = np.arange(1000), np.arange(1000, 1500)
    episodes = np.arange(1500) // 50
    linear = ridge_r2(features, wanted, train, test, ['double', 'noise'])
    found = mlp_r2(features, wanted, train, test, ['double', 'noise'], episodes,
                   torch.Generator().manual_seed(0))
    assert linear['double'] < 0.05
    assert found['double'] > 0.95
    assert -0.05 < found['noise'] < 0.05, 'where nothing is learned, the mean is predicted'


def test_the_mlp_stops_before_it_learns_its_rows_by_heart() -> None:
    """Wide noise and few rows: fitted to the end, R² would be far below 0."""
    features = np.random.default_rng(6).normal(size=(300, 400))
    assert min(fit_mlp(features, targets()).values()) > -0.1


def test_the_mlp_is_the_same_each_time_and_leaves_torch_s_generator_alone() -> None:
    features = np.random.default_rng(7).normal(size=(300, 8)) + targets() @ np.ones((2, 8))
    before = torch.random.get_rng_state()
    first = fit_mlp(features, targets())
    with torch.no_grad():
        assert fit_mlp(features, targets()) == first
    with torch.inference_mode():
        assert fit_mlp(features, targets()) == first
    assert torch.equal(torch.random.get_rng_state(), before)
    other = mlp_r2(features, targets(), TRAIN, TEST, ['a', 'b'], EPISODES,
                   torch.Generator().manual_seed(1))
    assert other != first
    assert other['a'] == pytest.approx(first['a'], abs=0.15)


def test_the_mlp_reads_features_of_any_width() -> None:
    wanted = targets()
    features = np.random.default_rng(8).normal(size=(300, 2500))
    features += wanted @ np.random.default_rng(9).normal(size=(2, 2500))
    assert min(fit_mlp(features, wanted).values()) > 0.9


def test_an_mlp_needs_two_training_episodes() -> None:
    with pytest.raises(ValueError, match='needs two training episodes'):
        mlp_r2(targets(), targets(), TRAIN, TEST, ['a', 'b'], np.zeros(300, dtype=np.int64),
               torch.Generator())
    result = probe(targets(), targets(), TRAIN, TEST, ['a', 'b'],
                   episodes=np.repeat([0, 1], [200, 100]))
    assert result.mlp_r2 == {}
    assert math.isnan(result.retrieval), 'a single held-out episode has none to compare with'


def test_wide_features_are_probed_in_seconds() -> None:
    rng = np.random.default_rng(10)
    wanted = rng.normal(size=(1900, 8))
    features = rng.normal(size=(1900, 400)) + wanted @ rng.normal(size=(8, 400))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        began = time.process_time()
        result = probe(features, wanted, np.arange(1500), np.arange(1500, 1900), list('abcdefgh'),
                       episodes=np.arange(1900) // 50)
        took = time.process_time() - began
    finally:
        torch.set_num_threads(threads)
    assert result.mean_mlp_r2 > 0.8
    assert took < 10.0  # 1.1 s on an idle core


def moving(episodes: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Progress 0 … 1 (N,) of episodes of different pace, and the episode of each row."""
    rng = np.random.default_rng(seed)
    paces = rng.uniform(0.6, 1.6, episodes)
    return (np.concatenate([np.linspace(0.0, 1.0, rows) ** pace for pace in paces]),
            np.repeat(np.arange(episodes), rows))


def test_features_that_know_the_progress_align_episodes() -> None:
    progress, episodes = moving(6, 20)
    rows = np.arange(len(progress))
    rng = np.random.default_rng(1)
    known = np.c_[progress, progress**2] + 5.0
    assert temporal_retrieval(known, episodes, rows) > 0.95
    noisy = known + 0.1 * rng.normal(size=known.shape)
    assert 0.5 < temporal_retrieval(noisy, episodes, rows) < 0.95
    backwards = np.where(episodes % 2 == 0, progress, 1.0 - progress)[:, None]
    assert temporal_retrieval(backwards, episodes, rows) < 0.0


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_features_that_know_nothing_of_time_are_at_chance(seed: int) -> None:
    progress, episodes = moving(8, 25)
    rows, rng = np.arange(len(progress)), np.random.default_rng(seed)
    noise = rng.normal(size=(len(rows), 8))
    assert abs(temporal_retrieval(noise, episodes, rows)) < 0.1
    fixed = np.repeat(rng.normal(size=(8, 8)), 25, axis=0)  # the episode and nothing else
    assert temporal_retrieval(fixed, episodes, rows) == 0.0
    assert temporal_retrieval(np.full((len(rows), 4), 0.3), episodes, rows) == 0.0


def test_tau_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(2)
    episodes = np.repeat([0, 1, 2], [5, 9, 7])
    features = rng.normal(size=(21, 2))

    def tau(first: np.ndarray, second: np.ndarray) -> float:
        found = [int(np.argmin([np.sum((one - other) ** 2) for other in second]))
                 for one in first]
        pairs = [(found[late] > found[early]) - (found[late] < found[early])
                 for early in range(len(found)) for late in range(early + 1, len(found))]
        untied = sum(pair != 0 for pair in pairs)
        return sum(pairs) / math.sqrt(len(pairs) * untied) if untied else 0.0
    groups = [features[episodes == number] for number in range(3)]
    wanted = np.mean([tau(groups[one], groups[two]) for one in range(3) for two in range(3)
                      if one != two])
    assert temporal_retrieval(features, episodes, np.arange(21)) == pytest.approx(float(wanted))
    stats = pytest.importorskip('scipy.stats')
    found = np.argmin(np.square(groups[1][:, None] - groups[2]).sum(axis=2), axis=1)
    assert tau(groups[1], groups[2]) == pytest.approx(
        stats.kendalltau(np.arange(9), found).correlation)


def test_episodes_of_other_tasks_and_other_rows_are_not_compared() -> None:
    progress, episodes = moving(4, 12)
    features = np.where(episodes < 2, progress, 1.0 - progress)[:, None]
    rows = np.arange(len(progress))
    tasks = ['lift' if episode < 2 else 'lower' for episode in episodes]
    assert temporal_retrieval(features, episodes, rows, tasks) > 0.9
    assert temporal_retrieval(features, episodes, rows) < 0.0
    assert temporal_retrieval(features, episodes, rows[episodes < 2]) > 0.9
    assert math.isnan(temporal_retrieval(features, episodes, rows[episodes == 0]))
    assert math.isnan(temporal_retrieval(features, episodes, rows, [str(item) for item in
                                                                    episodes]))


def test_figures_have_the_names_that_runs_store() -> None:
    result = ProbeResult(feature_std=0.5, rank_me=3.0, effective_rank=2.0, width=8,
                         r2={'state.x': 0.5, 'scene.y': 0.7}, mlp_r2={'state.x': 0.75})
    assert result.metrics() == {
        'probe.feature_std': 0.5, 'probe.rank_me': 3.0, 'probe.effective_rank': 2.0,
        'probe.mean_r2': pytest.approx(0.6), 'probe.mean_mlp_r2': 0.75, 'probe.r2.state.x': 0.5,
        'probe.r2.scene.y': 0.7, 'probe.mlp_r2.state.x': 0.75}


def test_a_target_that_rests_has_no_figure() -> None:
    wanted = np.c_[targets(), np.full(300, 7.0)]
    assert set(ridge_r2(wanted, wanted, TRAIN, TEST, ['a', 'b', 'still'])) == {'a', 'b'}


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    features = targets()
    features[3, 0] = value
    with pytest.raises(ValueError, match='must be finite'):
        probe(features, targets(), TRAIN, TEST, ['a', 'b'])


def test_pixel_components_hold_the_variance_of_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.0, 1.0, (60, 2))
    patterns = rng.uniform(0.0, 120.0, (2, 1, 8, 8, 3))
    images = np.tensordot(amounts, patterns, 1).round().astype(np.uint8)
    found = pixel_components(images, np.arange(40), 3)
    assert found.shape == (60, 3)
    result = ridge_r2(found, amounts, np.arange(40), np.arange(40, 60), ['a', 'b'], 1e-3)
    assert min(result.values()) > 0.99
    assert found[:40, 0].std() > 20.0 * found[:40, 2].std(), 'two directions, then noise'


def test_the_table_of_a_real_run_holds_its_baselines(tmp_path: Path) -> None:
    write_toy(tmp_path / 'data', episodes=8)
    run = train(small_config('keypoints'), tmp_path / 'data', tmp_path / 'run', quiet=True)
    table = probe_table(run.path, tmp_path / 'data', None)
    assert list(table) == ['keypoints', 'random encoder', 'PCA of pixels', 'proprioception']
    figures = {'std', 'effective_rank', 'RankMe', 'R2_state', 'MLP_state', 'tau'}
    assert all(set(table[name]) == figures for name in list(table)[:3])
    assert set(table['proprioception']) == {'std', 'effective_rank', 'RankMe', 'tau'}
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert table['keypoints'] != table['random encoder']
    assert table == probe_table(run.path, tmp_path / 'data', None)
    write_toy(tmp_path / 'other', episodes=2, first_seed=50)
    with pytest.warns(UserWarning, match='trained on another dataset than .*may flatter it'):
        small = probe_table(run.path, tmp_path / 'other', None)
    assert set(small['keypoints']) == {'std', 'effective_rank', 'RankMe', 'R2_state'}, \
        'one training episode and one held-out one are too few for the others'
    text = format_table(table)
    assert 'The scene is not probed: the dataset records no whole pose' in text
    assert Dataset.open(tmp_path / 'data').contract.evaluation_names == ()


def write_scene(out: Path, episodes: int, rows: int) -> None:
    """Write the toy's data with a blue object whose recorded place is another each time."""
    names = ['position.x', 'position.y', 'position.z',
             'orientation.x', 'orientation.y', 'orientation.z', 'orientation.w']
    contract = parse_contract({
        **toy_contract().to_dict(), 'evaluation': [{
            'topic': 'pose', 'type': 'geometry_msgs/PoseStamped', 'names': names}]}, 'scene')
    writer = DatasetWriter(out, contract, 20)
    for number in range(episodes):
        state, action = walk(rows, number)
        left, top = np.random.default_rng([number, 1]).integers(0, SIZE - 8, 2)
        pictures = draw(state)
        pictures[:, top:top + 8, left:left + 8] = (40, 60, 230)
        pose = np.tile(np.float32([left / SIZE, top / SIZE, 0.1, 0, 0, 0, 1]), (rows, 1))
        writer.add_episode(AlignedEpisode(
            ticks_ns=np.arange(rows, dtype=np.int64) * PERIOD_NS, pictures={'front': pictures},
            state=state, action=action, evaluation=pose,
            skew_s={label: np.zeros(rows, np.float32) for label, _, _ in stream_labels(contract)},
            flagged=np.zeros(rows, dtype=bool)), 'move', True, f'seed {number}')
    writer.finish()


def test_the_scene_is_read_off_pixels_and_not_off_proprioception(tmp_path: Path) -> None:
    write_scene(tmp_path / 'data', episodes=60, rows=6)
    run = train(small_config('keypoints'), tmp_path / 'data', tmp_path / 'run', quiet=True)
    table = probe_table(run.path, tmp_path / 'data', None)
    assert list(table['keypoints']) == [
        'std', 'effective_rank', 'RankMe', 'R2_state', 'MLP_state', 'R2_x', 'MLP_x', 'R2_y',
        'MLP_y', 'tau'], 'height and yaw of the object rest'
    for value in ('R2_x', 'R2_y'):
        assert table['PCA of pixels'][value] > table['proprioception'][value] + 0.3
        assert table['proprioception'][value] < 0.1
    assert 'R2_state' not in table['proprioception']
    text = format_table(table)
    assert 'not probed' not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_printed_table_is_aligned_and_says_what_is_missing() -> None:
    row = {'std': 0.04257, 'effective_rank': 12.3, 'RankMe': 3.2, 'R2_state': 0.91,
           'MLP_state': 0.95, 'R2_x': 0.5, 'MLP_x': 0.75, 'tau': 0.8}
    bare = {name: row[name] for name in ('std', 'effective_rank', 'RankMe', 'R2_x', 'MLP_x')}
    text = format_table({'simclr': row, 'proprioception': bare})
    lines = text.split('\n\n')[0].splitlines()
    assert lines[0].split() == ['simclr', 'proprioception']
    assert len({len(line) for line in lines}) == 1, 'every line ends below the last name'
    assert [line.split()[-2:] for line in lines if line.startswith('R² of state')] == [
        ['0.910', '-'], ['0.950', '-']]
    assert lines[-1].split() == ['retrieval,', 'tau', '0.800', '-']
    assert max(map(len, text.splitlines())) <= 80
    assert 'Proprioception is the state itself' in text
    assert 'not probed' not in text
    without = format_table({'simclr': {'std': 0.1, 'R2_state': 0.5}})
    assert 'The scene is not probed' in without
    assert 'No MLP was fitted' in without
    assert 'No retrieval was measured' in without
    assert 'Proprioception is' not in without
