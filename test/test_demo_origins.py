# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""No product of the demo outlives what it was made from."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import time

import pytest
from ssl_vla_ros.demo.origins import fingerprint, Origins
from ssl_vla_ros.demo.plan import QUICK
from ssl_vla_ros.demo.stages import Demo
from tiny_training import write_toy


def test_a_fingerprint_tells_texts_files_and_their_order_apart(tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.write_text('a')
    found = [
        fingerprint(['a', 'b']), fingerprint(['b', 'a']), fingerprint(['ab']), fingerprint(),
        fingerprint(['a'], [one]), fingerprint(['a'], [one, two]),
        fingerprint(['a'], [two, one])]
    one.write_text('b')
    found.append(fingerprint(['a'], [one]))
    assert len(set(found)) == len(found)
    assert fingerprint(['a', 'b']) == found[0]


def test_what_was_made_from_something_else_is_removed_and_the_rest_stays(tmp_path: Path) -> None:
    folder, file = tmp_path / 'folder', tmp_path / 'deep' / 'file'
    origins = Origins(tmp_path)
    assert origins.renew('first', folder, file) == []
    folder.mkdir()
    file.parent.mkdir()
    (folder / 'inside').write_text('x')
    file.write_text('x')
    assert origins.renew('first', folder, file) == []
    assert Origins(tmp_path).renew('second', file) == ['deep/file']
    assert not file.exists() and (folder / 'inside').exists()
    # Nothing says what this one was made from.
    (tmp_path / 'origins' / 'folder').unlink()
    assert Origins(tmp_path).renew('first', folder) == ['folder']
    assert not folder.exists()
    assert Origins(tmp_path).renew('first', folder, file) == []
    assert not list(tmp_path.rglob('*.part'))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    (tmp_path / QUICK.name).mkdir()
    made = Demo(tmp_path, QUICK)
    yield made
    made.close()


def finish(demo: Demo, run: str, weights: str) -> Path:
    """Leave what a finished training leaves."""
    place = demo.runs / run
    place.mkdir(parents=True, exist_ok=True)
    (place / 'model.safetensors').write_text(weights)
    return place


def test_a_head_goes_with_its_encoder_and_an_encoder_with_its_dataset(
        demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    write_toy(demo.data)
    demo.training('keypoints', 'encoder', 'steps=2')
    encoder = finish(demo, 'encoder', 'a')
    demo.training('behaviour_cloning', 'head_ssl', 'steps=2')
    head = finish(demo, 'head_ssl', 'b')

    job = demo.training('behaviour_cloning', 'head_ssl', 'steps=2')
    assert head.exists()
    assert job.arguments[:1] == ('train',) and job.arguments[-1] == 'steps=2'
    assert capsys.readouterr().out == ''

    finish(demo, 'encoder', 'other weights')
    demo.training('behaviour_cloning', 'head_ssl', 'steps=2')
    assert not head.exists() and encoder.exists()
    assert capsys.readouterr().out == (
        'runs/head_ssl was made from something else than is here now: it is made anew\n')

    finish(demo, 'head_ssl', 'b')
    demo.training('behaviour_cloning', 'head_ssl', 'steps=3')
    assert not head.exists()

    for path in sorted(demo.data.rglob('*'), reverse=True):
        if path.is_file():
            path.unlink()
        else:
            path.rmdir()
    demo.data.rmdir()
    write_toy(demo.data, first_seed=50)
    demo.training('keypoints', 'encoder', 'steps=2')
    assert not encoder.exists()


def test_origins_are_known_to_the_next_run(demo: Demo) -> None:
    product = demo.work / 'product'
    assert demo.made_from('first', product)
    product.write_text('half')
    # Written before the product was: a run that was killed goes on with what it has.
    again = Demo(demo.out, QUICK)
    assert not again.made_from('first', product)
    assert product.exists()
    assert again.made_from('second', product)
    again.close()


def test_time_counts_only_where_there_was_something_to_do(demo: Demo) -> None:
    with demo.stage(1, 'record'):
        time.sleep(0.05)
    assert 'seconds' not in demo.stages and demo.wall_s() == 0.0
    with demo.stage(2, 'build'):
        demo.work_begins()
        time.sleep(0.05)
    with demo.stage(3, 'pretrain'):
        pass
    assert list(demo.stages['seconds']) == ['build']
    assert demo.stages['seconds']['build'] >= 0.05
    demo.close()
    wall = demo.stages['wall_s']
    assert wall >= 0.1

    again = Demo(demo.out, QUICK)
    with again.stage(2, 'build'):
        pass
    assert again.wall_s() == wall
    again.close()
    assert json.loads((demo.work / 'stages.json').read_text())['wall_s'] == wall
