# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The report page: whole in itself, true to the report, and honest about what is missing."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
import io
from pathlib import Path
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from report_example import example_report

from ssl_vla_ros.report.page import FilmStrip, render_report, write_report
from ssl_vla_ros.report.video import encode_mp4

VOID = {'meta', 'img'}


class Page(HTMLParser):
    """Read a page strictly: every tag is closed; text and attributes are kept by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.sections: dict[str, str] = {}
        self._heading = ''
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ('script', 'link', 'iframe', 'object')
        self.links += [(tag, value or '') for name, value in attrs if name in ('src', 'href')]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == 'h2':
            self._heading = data
            self.sections[data] = ''
        elif self._heading:
            self.sections[self._heading] += ' ' + data


def _pictures(count: int, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 24, 32, 3), dtype=np.uint8))


def test_page_holds_everything_and_needs_nothing() -> None:
    strip = FilmStrip(_pictures(3, 0), _pictures(3, 1), ['+1', '+2', '+3'])
    video = encode_mp4(_pictures(5, 2), 20)
    text = render_report(example_report(), title='demo <1>', film_strip=strip, video=video)
    page = Page(text)
    assert all(value.startswith('data:') for _, value in page.links)
    assert 'http' not in text.replace('http://www.w3.org/2000/svg', '')
    images = [value.partition(',')[2] for tag, value in page.links if tag == 'img']
    pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), cv2.IMREAD_COLOR)
                for image in images]
    for wanted, found in zip([*strip.real, *strip.predicted], pictures, strict=True):
        np.testing.assert_array_equal(found[:, :, ::-1], wanted)
    (embedded,) = [value for tag, value in page.links if tag == 'video']
    av = pytest.importorskip('av', reason='PyAV is not installed')
    assert embedded.startswith('data:video/mp4;base64,')
    with av.open(io.BytesIO(base64.b64decode(embedded.partition(',')[2]))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    plots = re.findall(r'<svg.*?</svg>', text, re.DOTALL)
    assert len(plots) == 4   # success, world model, two training curves
    for plot in plots:
        ElementTree.fromstring(plot)
    assert 'demo &lt;1&gt;' in text
    assert '17 of 20' in page.sections['Policies, closed loop']
    assert '0.62' in page.sections['World model']
    assert '31.5 ms' in page.sections['Inference']
    assert 'encoder.onnx cpu 64 5.4e-07' in page.sections['Export']
    assert '7123' in page.sections['Messages recorded']
    # The random encoder's yaw was not probed; all else is there.
    assert page.sections['Probes of frozen features'].count('not run') == 1
    assert text.count('not run') == 1


def test_empty_report_says_not_run_everywhere() -> None:
    page = Page(render_report({}))
    assert len(page.sections) == 10
    for name, content in page.sections.items():
        assert 'not run' in content, name
    assert page.links == []


@pytest.mark.parametrize(('film', 'words'), [
    ({'start': 3, 'success': True}, 'Start 3: the first that lifted the cube.'),
    ({'start': 0, 'success': False}, 'Start 0: not lifted; no rollout was.'),
    ({}, ''), ({'start': None, 'success': True}, '')])
def test_the_video_says_what_it_shows(film: dict[str, object], words: str) -> None:
    page = Page(render_report({'film': film}, video=encode_mp4(_pictures(2, 0), 20)))
    assert page.sections['A rollout'].strip() == words


def test_strip_with_a_missing_picture_is_refused() -> None:
    with pytest.raises(ValueError, match='2 predicted'):
        FilmStrip(_pictures(3, 0), _pictures(2, 1), ['+1', '+2', '+3'])


def test_curve_without_a_finite_value_is_named() -> None:
    report = {'curves': {'encoder': {'loss': [[0, None], [1, None]]}}}
    assert 'loss: no finite value' in Page(render_report(report)).sections['Training']


def test_page_is_written_whole(tmp_path: Path) -> None:
    video = tmp_path / 'a.mp4'
    video.write_bytes(encode_mp4(_pictures(2, 0), 20))
    path = write_report(tmp_path / 'out' / 'report.html', example_report(), video=video)
    assert [item.name for item in path.parent.iterdir()] == ['report.html']
    Page(path.read_text(encoding='utf-8'))
