# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Read finished episodes: their account of themselves, raw messages and decoded ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.accounting import TopicAccount, unbalanced
from ssl_vla_ros.episodes.mend import BROKEN_FILE
from ssl_vla_ros.episodes.schemas import short_type
from ssl_vla_ros.episodes.writer import SCHEMA_VERSION, STATUSES
from ssl_vla_ros.errors import EpisodeError
from ssl_vla_ros.messages.stamps import stamp_ns


@dataclass(frozen=True)
class RawMessage:
    """A message as it was recorded: ``topic`` and ``type`` as the contract writes them."""

    topic: str
    type: str  # noqa: A003
    data: bytes
    log_time_ns: int
    publish_time_ns: int


@dataclass(frozen=True)
class DecodedMessage:
    """A decoded message; ``stamp_ns`` is its header's, None for a type without one."""

    topic: str
    message: Any
    log_time_ns: int
    stamp_ns: int | None


def list_episodes(session: Path) -> list[Path]:
    """
    Finished episodes of a session, by number.

    Raises
    ------
    EpisodeError
        If there is no such directory.

    """
    return sessions.finished(sessions.existing(Path(session)))


class Episode:
    """
    A finished episode, opened by ``Episode.open``.

    Attributes
    ----------
    path
        Its directory.
    info
        The content of episode.json.
    contract
        The robot contract it was recorded with.

    """

    def __init__(self, path: Path, info: dict[str, Any], contract: Contract,
                 file: Path) -> None:
        self.path = path
        self.info = info
        self.contract = contract
        self._file = file
        self._names: dict[str, str] = {
            bag: topic for topic, bag in info['topics'].items()}

    @classmethod
    def open(cls, path: Path) -> Episode:  # noqa: A003
        """
        Open an episode's directory.

        Raises
        ------
        EpisodeError
            If a file is missing or its content is wrong.
        ContractError
            If the embedded contract is not valid.

        """
        path = Path(path)
        info = read_info(path / sessions.INFO_FILE)
        file = path / sessions.mcap_name(info['episode'])
        if not file.is_file():
            # A directory that the user renamed still has the file, under its first name.
            found = sorted(path.glob('*.mcap'))
            if len(found) != 1:
                raise EpisodeError(
                    f'{path}: has {len(found)} .mcap files, must be {file.name} alone')
            file = found[0]
        return cls(path, info, parse_contract(
            info['contract'], f'{path / sessions.INFO_FILE} (contract)'), file)

    @property
    def accounts(self) -> dict[str, TopicAccount]:
        """Read what became of every message, by topic."""
        return {topic: TopicAccount.from_dict(data)
                for topic, data in self.info['counts'].items()}

    @property
    def ended_early(self) -> bool:
        """Whether all that is wrong with it is that nobody asked for its end."""
        return self.info['status'] == 'incomplete' and not self.faults

    @property
    def faults(self) -> tuple[str, ...]:
        """
        Say what nobody accounts for: a disk that failed, books out of balance, a silent topic.

        Empty if every message up to the end is in the bag or in the books, however early that
        end came. Of a ``recovered`` episode nobody knows it: its counts are not exact.
        """
        wrong = [topic for topic, account in self.accounts.items() if not account.balanced]
        found = [unbalanced(wrong)] if wrong else []
        noted = self.info.get('faults')
        if noted is None and self.info['status'] == 'incomplete':
            # Written by a recorder that did not tell a failed disk from an early end.
            noted = [self.info.get('reason') or 'no reason given']
        return tuple(dict.fromkeys([*(noted or ()), *found]))

    def raw(self, topics: Iterable[str] | None = None) -> Iterator[RawMessage]:
        """
        Messages as recorded, in the order of their receive times.

        Parameters
        ----------
        topics
            Topics as the contract names them; all if None.

        Raises
        ------
        EpisodeError
            If a topic is unknown, or the file is broken.

        """
        for schema, channel, message in self._records(topics):
            yield RawMessage(
                self._names[channel.topic], short_type(schema.name), message.data,
                message.log_time, message.publish_time)

    def decoded(self, topics: Iterable[str] | None = None) -> Iterator[DecodedMessage]:
        """
        Messages decoded with the definitions in the bag, in the order of their receive times.

        Raises
        ------
        EpisodeError
            As ``raw``, and for a message that does not decode.

        """
        factory = DecoderFactory()
        for schema, channel, message in self._records(topics):
            decode = factory.decoder_for(channel.message_encoding, schema)
            if decode is None:
                raise EpisodeError(
                    f'{self._file}: {channel.topic} is {channel.message_encoding!r} with a '
                    f'{schema.encoding!r} schema; only cdr with ros2msg can be decoded')
            try:
                decoded = decode(message.data)
            except Exception as error:  # the decoder raises whatever the bytes lead it to
                raise EpisodeError(
                    f'{self._file}: a message on {channel.topic} at {message.log_time} ns does '
                    f'not decode as {schema.name}: {error!r}') from error
            header = getattr(decoded, 'header', None)
            yield DecodedMessage(
                self._names[channel.topic], decoded, message.log_time,
                None if header is None else stamp_ns(header.stamp))

    def _records(self, topics: Iterable[str] | None) -> Iterator[tuple[Any, Any, Any]]:
        bag_names: list[str] | None = None
        if topics is not None:
            known = self.info['topics']
            wanted = list(topics)
            unknown = [topic for topic in wanted if topic not in known]
            if unknown:
                raise EpisodeError(
                    f'{self.path}: holds no topic {", ".join(unknown)}; it has '
                    f'{", ".join(known)}')
            bag_names = [known[topic] for topic in wanted]
            if not bag_names:
                return
        try:
            with self._file.open('rb') as stream:
                yield from make_reader(stream).iter_messages(topics=bag_names)
        except EpisodeError:
            raise
        except (OSError, *BROKEN_FILE) as error:
            raise EpisodeError(
                f'{self._file}: cannot be read: {error!r}; if the disk is sound, '
                'record this episode again') from error


def read_info(path: Path) -> dict[str, Any]:
    """
    Read and check an episode.json.

    Raises
    ------
    EpisodeError
        Naming the file, key and value.

    """
    try:
        info = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise EpisodeError(f'{path}: missing, so {path.parent} is no episode') from error
    except (OSError, ValueError) as error:
        raise EpisodeError(f'{path}: cannot be read: {error}') from error
    if not isinstance(info, dict):
        raise EpisodeError(f'{path}: must hold a mapping')
    if info.get('schema_version') != SCHEMA_VERSION:
        raise EpisodeError(
            f'{path}: schema_version is {info.get("schema_version")!r}, must be '
            f'{SCHEMA_VERSION}; use the version of ssl_vla_ros that recorded it')
    if info.get('status') not in STATUSES:
        raise EpisodeError(
            f'{path}: status is {info.get("status")!r}, must be one of {", ".join(STATUSES)}')
    for key, kind in (('episode', int), ('contract', dict), ('topics', dict), ('counts', dict)):
        if not isinstance(info.get(key), kind):
            raise EpisodeError(
                f'{path}: {key} is {info.get(key)!r}, must be a '
                f'{"number" if kind is int else "mapping"}')
    if not isinstance(info.get('faults', []), list):
        raise EpisodeError(f'{path}: faults is {info["faults"]!r}, must be a list')
    return info
