# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics against numpy on the whole data."""

from __future__ import annotations

import json

import numpy as np

from ssl_vla_ros.dataset.stats import ImageStats, jsonable, QUANTILES, vector_stats


def test_counted_pictures_have_numpys_statistics() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 200, (7, 24, 32, 3), dtype=np.uint8) + np.array(
        [0, 20, 55], dtype=np.uint8)
    first, second = ImageStats(), ImageStats()
    for frame in frames[:3]:
        first.add(frame)
    for frame in frames[3:]:
        second.add(frame)
    first.merge(second)
    found = first.result()
    values = frames.reshape(-1, 3) / 255.0
    expected = {'min': values.min(axis=0), 'max': values.max(axis=0),
                'mean': values.mean(axis=0), 'std': values.std(axis=0)}
    expected |= {name: np.quantile(values, part, axis=0) for name, part in QUANTILES.items()}
    for name, value in expected.items():
        assert found[name].shape == (3, 1, 1)
        np.testing.assert_allclose(found[name].reshape(3), value, atol=1e-9, err_msg=name)
    assert found['count'].tolist() == [7]


def test_quantiles_of_pictures_interpolate_as_numpy_does() -> None:
    stats = ImageStats()
    frame = np.zeros((1, 2, 3), dtype=np.uint8)
    frame[0, 1] = 255
    stats.add(frame)
    np.testing.assert_allclose(stats.result()['q10'].reshape(3), 0.1)


def test_vectors_leave_out_what_was_not_measured() -> None:
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    stats = vector_stats(values)
    assert stats['mean'][:2].tolist() == [2.0, 5.0]
    assert stats['std'][:2].tolist() == [1.0, 0.0]
    assert np.isnan(stats['q50'][2])
    assert stats['count'].tolist() == [2]


def test_json_never_gets_nan() -> None:
    table = {'good': vector_stats(np.array([[1.0], [2.0]])),
             'empty': vector_stats(np.array([[np.nan]]))}
    written = jsonable(table)
    assert list(written) == ['good']
    json.dumps(written, allow_nan=False)
