# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A demo report as one HTML file that needs nothing else: no network, no scripts, no other file.

Plots are inline SVG, pictures PNG and the video mp4 inside data URIs. What was not run says so.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.report.style import STYLE
from ssl_vla_ros.report.svg import line_plot, Points, rate_plot
from ssl_vla_ros.report.values import (
    COUNTERS, duration, memory, NOT_RUN, number, numbers, part, POLICIES, recording_rows, shown,
    success, unaccounted)
from ssl_vla_ros.report.video import replace_bytes

#: Width on the page of one picture of the film strip, pixels; small ones are enlarged sharply.
_STRIP_WIDTH = 112


@dataclass(frozen=True)
class FilmStrip:
    """
    What the world model foresaw beside what came.

    Attributes
    ----------
    real, predicted
        Pictures (H, W, 3) uint8 rgb8, one of each for every label.
    labels
        Such as ``+1``, ``+2`` … (ticks ahead).

    """

    real: Sequence[NDArray[np.uint8]]
    predicted: Sequence[NDArray[np.uint8]]
    labels: Sequence[str]

    def __post_init__(self) -> None:
        """Refuse rows of different lengths: a missing picture would shift the ones after it."""
        if not len(self.real) == len(self.predicted) == len(self.labels) > 0:
            raise ValueError(
                f'film strip: {len(self.real)} real and {len(self.predicted)} predicted pictures '
                f'for {len(self.labels)} labels; each label needs one of each')


def write_report(
    path: Path, report: Mapping[str, Any], *, title: str = 'ssl_vla demo',
    film_strip: FilmStrip | None = None, video: Path | None = None,
) -> Path:
    """Write the page by one rename; ``video`` is an mp4 file that is copied into it."""
    page = render_report(
        report, title=title, film_strip=film_strip,
        video=video.read_bytes() if video is not None else None)
    replace_bytes(path, page.encode())
    return path


def render_report(
    report: Mapping[str, Any], *, title: str = 'ssl_vla demo',
    film_strip: FilmStrip | None = None, video: bytes | None = None,
) -> str:
    """Render the report dict of a demo as a page."""
    sections = (
        ('Policies, closed loop', _policies(report)),
        ('World model', _world_model(part(report, 'world_model'))),
        ('Predicted beside real', _film_strip(film_strip)),
        ('A rollout', _video(video, part(report, 'film'))),
        ('Inference', _inference(part(report, 'inference'))),
        ('Export', _parity(part(report, 'parity'))),
        ('Messages recorded', _recording(report)),
        ('Probes of frozen features', _probes(part(report, 'probes'))),
        ('Training', _curves(part(report, 'curves'))),
        ('Time', _stages(report)),
    )
    body = ''.join(f'<section><h2>{escape(name)}</h2>{content}</section>'
                   for name, content in sections)
    return (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)}</title><style>{STYLE}</style></head>'
            f'<body><h1>{escape(title)}</h1>{body}</body></html>\n')


def png_uri(picture: NDArray[np.uint8]) -> str:
    """Encode a picture (H, W, 3) rgb8 as a PNG data URI."""
    done, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:  # pragma: no cover - OpenCV raises before it comes to this
        raise ValueError(f'cannot encode a picture of {picture.dtype} {picture.shape}')
    return _uri('image/png', data.tobytes())


def _uri(kind: str, content: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode("ascii")}'


def _missing() -> str:
    return f'<p class="missing">{NOT_RUN}</p>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows; the first column is text, the others are numbers."""
    top = ''.join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = ''.join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + ''.join(f'<td>{escape(cell)}</td>' for cell in row[1:]) + '</tr>' for row in rows)
    return (f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
            f'<tbody>{body}</tbody></table></div>')


def _policies(report: Mapping[str, Any]) -> str:
    rows: list[tuple[str, tuple[float, float, float, str] | None]] = []
    for key, label in POLICIES.items():
        row = success(report, key)
        rows.append((label, None if row is None else (
            row.rate, row.low, row.high, f'{row.successes} of {row.rollouts}')))
    return (rate_plot(rows, missing=NOT_RUN)
            + '<p>Share of rollouts that lifted the cube, with 95 % Wilson intervals; the same '
              'starts for each. The first row ran through the nodes in real time, with their '
              'latency; the others in process, without any.</p>')


def _world_model(world_model: Mapping[str, Any]) -> str:
    if not world_model:
        return _missing()
    text = '<p>' + '; '.join(
        f'{label}: <b>{shown(number(world_model, key), "{:.2f}")}</b>' for key, label in (
            ('error_ratio_h8', 'error at 8 ticks, of copying the last frame'),
            ('error_ratio_h8_shuffled', 'with shuffled actions'))) + '.</p>'
    series: dict[str, Points] = {}
    for key, label in (('error_by_horizon', 'with the commanded actions'),
                       ('error_by_horizon_shuffled', 'with shuffled actions')):
        values = numbers(world_model, key)
        if values:
            series[label] = [(float(tick + 1), value) for tick, value in enumerate(values)]
    if not series:
        return text
    return text + line_plot(
        series, x_label='ticks ahead', y_label='error / error of copying', markers=True,
        reference=(1.0, 'copying the last frame'))


def _film_strip(strip: FilmStrip | None) -> str:
    if strip is None:
        return _missing()
    rows = []
    for name, pictures in (('real', strip.real), ('predicted', strip.predicted)):
        cells = ''.join(
            f'<td><img src="{png_uri(picture)}" width="{_STRIP_WIDTH}" '
            f'alt="{escape(name)} {escape(label)}"></td>'
            for picture, label in zip(pictures, strip.labels, strict=True))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    head = ''.join(f'<th scope="col">{escape(label)}</th>' for label in strip.labels)
    return (f'<div class="scroll"><table class="strip"><thead><tr><th></th>{head}</tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div>')


def _video(video: bytes | None, film: Mapping[str, Any]) -> str:
    if video is None:
        return _missing()
    start, lifted = number(film, 'start'), film.get('success')
    note = ''
    if start is not None and isinstance(lifted, bool):
        how = 'the first that lifted the cube' if lifted else 'not lifted; no rollout was'
        note = f'<p>Start {start:.0f}: {how}.</p>'
    source = _uri('video/mp4', video)
    return f'{note}<video controls loop muted playsinline src="{source}"></video>'


def _inference(inference: Mapping[str, Any]) -> str:
    if not inference:
        return _missing()
    return _table(('', 'value'), [(label, shown(number(inference, key), pattern))
                                  for key, label, pattern in (
        ('rate_hz', 'features published', '{:.2f} Hz'),
        ('age_p50_ms', 'age of the features, p50', '{:.1f} ms'),
        ('age_p99_ms', 'age of the features, p99', '{:.1f} ms'),
        ('missed_fraction', 'deadlines missed, or met late', '{:.3%}'))])


def _parity(parity: Mapping[str, Any]) -> str:
    if not parity:
        return _missing()
    rows = []
    for name in parity:
        for backend in part(parity, name):
            row = part(part(parity, name), backend)
            rows.append((name, backend, shown(number(row, 'samples'), '{:.0f}'), shown(
                number(row, 'max_abs_error'), '{:.1e}'), shown(
                number(row, 'tolerance'), '{:.0e}'), shown(number(row, 'cosine'), '{:.6f}')))
    return _table(('graph', 'backend', 'real samples', 'largest error', 'allowed',
                   'smallest cosine'), rows) + (
        '<p>ONNX Runtime against torch; the decoder draws in grey levels of 255.</p>')


def _recording(report: Mapping[str, Any]) -> str:
    rows = recording_rows(report)
    if not rows:
        return _missing()
    return _table(('topic', *COUNTERS, 'unaccounted'), [
        (topic, *(NOT_RUN if count is None else str(count) for count in (*row, unaccounted(row))))
        for topic, row in rows.items()])


def _probes(probes: Mapping[str, Any]) -> str:
    targets: list[str] = []
    for encoder in probes:
        targets += [target for target in part(probes, encoder) if target not in targets]
    if not targets:
        return _missing()
    return _table(('encoder', *targets), [
        (encoder, *(shown(number(part(probes, encoder), target), '{:.3f}') for target in targets))
        for encoder in probes]) + (
            '<p>std: deviation of the features; RankMe: their effective rank; R2: of a ridge '
            'probe to the joints and, where recorded, the scene, on held-out episodes; 1 is '
            'perfect, 0 is what guessing the mean gives.</p>')


def _curves(curves: Mapping[str, Any]) -> str:
    plots = []
    for run in curves:
        for metric, values in part(curves, run).items():
            line = [(float(step), float('nan') if value is None else float(value))
                    for step, value in values]
            try:
                plot = line_plot({metric: line}, x_label='step', y_label=metric, width=360,
                                 height=200)
            except ValueError:
                plot = f'<p>{escape(metric)}: no finite value</p>'
            plots.append(f'<figure><figcaption>{escape(run)}</figcaption>{plot}</figure>')
    return f'<div class="plots">{"".join(plots)}</div>' if plots else _missing()


def _stages(report: Mapping[str, Any]) -> str:
    rows = [(stage, duration(number(part(report, 'stages'), stage)))
            for stage in part(report, 'stages')]
    rows.append(('all', duration(number(report, 'wall_s'))))
    rows.append(('peak memory', memory(number(report, 'peak_rss_mb'))))
    return _table(('stage', 'time'), rows)
