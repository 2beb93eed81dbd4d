# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading a recording's streams: what is good of each, and what was refused for which cause.

Messages may come in any order; each stream is judged in the order of receive times.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Camera, Contract, Stream
from ssl_vla_ros.dataset import clock
from ssl_vla_ros.dataset.align_cdr import Decoder, make_decoder
from ssl_vla_ros.dataset.align_pictures import Budget, judge, Picture, Shot, TickPictures
from ssl_vla_ros.dataset.align_recording import Inventory, Message, Recording
from ssl_vla_ros.dataset.aligned import stream_labels
from ssl_vla_ros.errors import DatasetError, EpisodeError, MessageError
from ssl_vla_ros.messages.images import camera_rgb
from ssl_vla_ros.messages.stamps import stamp_ns
from ssl_vla_ros.messages.streams import read_stream
from ssl_vla_ros.preprocess import resize


@dataclass
class Track:
    """
    One stream.

    Attributes
    ----------
    label, kind, source
        As ``aligned.stream_labels`` lists it.
    times
        (N,) int64 rising stamps of what is good, after ``close``.
    rejected
        Messages that were not used, by cause.

    """

    label: str
    kind: str
    source: Camera | Stream
    times: clock.Stamps = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        """Its topic, as the contract names it."""
        return self.source.topic

    @property
    def stamped(self) -> bool:
        """Whether its messages have a header."""
        return not isinstance(self.source, Stream) or self.source.stamped

    def take(self, message: Message, decoded: Any, stamp: int) -> None:
        """Note one message."""
        raise NotImplementedError

    def close(self) -> None:
        """Put the messages in order and refuse what does not rise."""
        raise NotImplementedError

    def reject(self, cause: str, count: int = 1) -> None:
        """Count messages that are not used."""
        self.rejected[cause] = self.rejected.get(cause, 0) + count

    def _rising(self, stamps: list[int]) -> list[int]:
        """Set ``times``; returns which of the stamps are in it."""
        every = np.array(stamps, dtype=np.int64)
        keep, refused = clock.keep_rising(every)
        self.times = every[keep]
        for cause, count in refused.items():
            self.reject(cause, count)
        return np.flatnonzero(keep).tolist()


@dataclass
class NumberTrack(Track):
    """A stream of numbers; ``values`` is (N, D) float64 after ``close``."""

    values: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    _found: list[tuple[int, int, NDArray[np.float64] | str]] = field(default_factory=list)

    def take(self, message: Message, decoded: Any, stamp: int) -> None:
        """Read its values."""
        assert isinstance(self.source, Stream)
        found: NDArray[np.float64] | str
        try:
            found = read_stream(self.source, decoded)
        except MessageError as error:
            found = error.cause
        self._found.append((message.log_time_ns, stamp, found))

    def close(self) -> None:
        """Make ``times`` and ``values``."""
        assert isinstance(self.source, Stream)
        stamps, values = [], []
        for _, stamp, found in sorted(self._found, key=lambda item: item[0]):
            if isinstance(found, str):
                self.reject(found)
            else:
                stamps.append(stamp)
                values.append(found)
        kept = [values[index] for index in self._rising(stamps)]
        self.values = np.array(kept, dtype=np.float64).reshape(-1, len(self.source.names))
        self._found = []


@dataclass
class CameraTrack(Track):
    """A camera; ``shots`` are its usable pictures after ``close``."""

    budget: Budget = field(default_factory=Budget)
    shots: list[Shot] = field(default_factory=list)

    def take(self, message: Message, decoded: Any, stamp: int) -> None:
        """Judge its picture."""
        assert isinstance(self.source, Camera)
        shot = Shot(stamp, message.log_time_ns, message.place, (0, 0))
        judge(self.source, decoded, shot, self.budget)
        self.shots.append(shot)

    def close(self) -> None:
        """Make ``times`` and ``shots``; the first picture sets the size."""
        size: tuple[int, int] | None = None
        usable = []
        for shot in sorted(self.shots, key=lambda item: item.log_time_ns):
            if not shot.cause and shot.size != (size or shot.size):
                shot.cause = 'size_changed'
            if shot.cause:
                self.reject(shot.cause)
            else:
                size = shot.size
                usable.append(shot)
        self.shots = [usable[index] for index in self._rising([item.stamp_ns for item in usable])]

    def pictures(self, recording: Recording, decode: Decoder, index: NDArray[np.int64]
                 ) -> TickPictures:
        """Give the pictures of these numbers, read from the recording when they are iterated."""
        camera = self.source
        assert isinstance(camera, Camera)

        def read(number: int) -> tuple[int, Picture]:
            shot = self.shots[number]
            if shot.kept is not None:
                return shot.stamp_ns, shot.kept
            log_time_ns, data = recording.read(shot.place, camera.topic)
            message = decoded(recording, self, decode, data, log_time_ns)
            try:
                picture = camera_rgb(camera, message)
            except MessageError as error:
                raise DatasetError(
                    f'{recording.path}: {self.label}: a picture that was good is not any more: '
                    f'{error}') from error
            return _stamp(message, log_time_ns), resize(picture, camera.height, camera.width)

        return TickPictures(f'{recording.path}: {self.label}', camera, self.times, index, read)


def read_tracks(recording: Recording, contract: Contract, keep_bytes: int
                ) -> tuple[list[Track], dict[str, Decoder]]:
    """
    Read every stream of the contract.

    Parameters
    ----------
    recording, contract
        What is read, and which streams of it.
    keep_bytes
        How many bytes of pictures are kept for later.

    Returns
    -------
    tuple
        One track a stream, cameras first, and what decodes each topic.

    Raises
    ------
    DatasetError
        As ``require_streams``.
    UserError
        If the recording cannot be read or a message does not decode.

    """
    require_streams(recording, contract)
    budget = Budget(keep_bytes)
    tracks: list[Track] = []
    by_topic: dict[str, list[Track]] = {}
    recorded = recording.recorded()
    for label, kind, source in stream_labels(contract):
        track: Track = (CameraTrack(label, kind, source, budget=budget)
                        if isinstance(source, Camera) else NumberTrack(label, kind, source))
        tracks.append(track)
        if source.topic in recorded:
            by_topic.setdefault(source.topic, []).append(track)
    decoders = {topic: make_decoder(found[0].source.type, recording.definition(topic),
                                    str(recording.path))
                for topic, found in by_topic.items()}
    for message in recording.messages(list(by_topic)):
        found = by_topic[message.topic]
        content = decoded(recording, found[0], decoders[message.topic], message.data,
                          message.log_time_ns)
        stamp = _stamp(content, message.log_time_ns)
        for track in found:
            try:
                track.take(message, content, stamp)
            except AttributeError as error:
                raise EpisodeError(
                    f'{recording.path}: {track.topic} is defined otherwise in the recording than '
                    f'{track.source.type} is here: {error}') from error
    for track in tracks:
        track.close()
    return tracks, decoders


def require_streams(recording: Inventory, contract: Contract) -> None:
    """
    Refuse a recording that lacks a stream of the contract, or has it as another type.

    Raises
    ------
    DatasetError
        Naming the stream and what was recorded.

    """
    recorded = recording.recorded()
    for label, kind, source in stream_labels(contract):
        if source.topic not in recorded:
            if kind != 'evaluation':
                raise DatasetError(
                    f'{recording.path}: {label} needs the topic {source.topic!r}, which was not '
                    f'recorded; recorded: {", ".join(recorded.values())}')
        elif recording.type_of(source.topic) != source.type:
            raise DatasetError(
                f'{recording.path}: {label} ({source.topic}) is {source.type} in '
                f'{contract.source}, and {recording.type_of(source.topic)} in the recording')


def decoded(recording: Recording, track: Track, decode: Decoder, data: memoryview,
            log_time_ns: int) -> Any:
    """
    Decode a message.

    Raises
    ------
    EpisodeError
        If it does not decode.

    """
    try:
        return decode(data)
    except Exception as error:  # decoders raise whatever the bytes lead them to
        raise EpisodeError(
            f'{recording.path}: a message on {track.topic} at {log_time_ns} ns does not decode '
            f'as {track.source.type}: {error!r}') from error


def _stamp(message: Any, log_time_ns: int) -> int:
    header = getattr(message, 'header', None)
    return log_time_ns if header is None else stamp_ns(header.stamp)
