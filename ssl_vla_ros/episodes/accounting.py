# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What became of every message of a topic during one episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TopicAccount:
    """
    Counts of one topic; ``published`` must equal the sum of the four fates.

    Attributes
    ----------
    published
        Messages the publisher sent while the episode ran.
    written
        Messages in the bag.
    lost
        Messages that the transport did not deliver.
    dropped
        Messages that came and found the queue full, or the disk.
    rejected
        Messages that came and were refused, by cause in ``rejected_by_cause``.
    published_exact
        Whether ``published`` was counted from the publisher's own sequence numbers. It is False
        with several publishers on the topic (then what was received and what the transport
        reported lost is added up), for one first heard in mid-sequence, and after a recovery.
    publishers
        How many publishers the topic had when the episode was closed; None if nobody knows.

    """

    published: int = 0
    written: int = 0
    lost: int = 0
    dropped: int = 0
    rejected: int = 0
    rejected_by_cause: dict[str, int] = field(default_factory=dict)
    published_exact: bool = True
    publishers: int | None = None

    @property
    def balanced(self) -> bool:
        """Whether every published message has exactly one fate, and every refusal a cause."""
        return (self.published == self.written + self.lost + self.dropped + self.rejected
                and self.rejected == sum(self.rejected_by_cause.values()))

    def reject(self, cause: str) -> None:
        """Count one refused message."""
        self.rejected += 1
        self.rejected_by_cause[cause] = self.rejected_by_cause.get(cause, 0) + 1

    def fate(self) -> str:
        """Say in words what became of the messages that are not in the bag, and who sends."""
        words = []
        if self.publishers is not None:
            words.append('no publisher' if not self.publishers else
                         f'{self.publishers} publisher{"s" if self.publishers > 1 else ""}')
        words += [f'{count} {name}' for name, count in (
            ('lost', self.lost), ('dropped', self.dropped)) if count]
        if self.rejected:
            causes = ', '.join(
                f'{count} {cause}' for cause, count in self.rejected_by_cause.items())
            words.append(f'{self.rejected} rejected: {causes}')
        return ', '.join(words) or 'nothing came'

    def to_dict(self) -> dict[str, Any]:
        """Give the counts as JSON-ready values."""
        return {
            'published': self.published, 'written': self.written, 'lost': self.lost,
            'dropped': self.dropped, 'rejected': self.rejected,
            'rejected_by_cause': dict(self.rejected_by_cause),
            'published_exact': self.published_exact, 'publishers': self.publishers}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TopicAccount:
        """Read back what ``to_dict`` gave."""
        return cls(
            published=int(data['published']), written=int(data['written']),
            lost=int(data['lost']), dropped=int(data['dropped']),
            rejected=int(data['rejected']),
            rejected_by_cause={
                str(cause): int(count) for cause, count in data['rejected_by_cause'].items()},
            published_exact=bool(data['published_exact']),
            # Absent in episodes of before it was noted.
            publishers=data.get('publishers'))


def unbalanced(topics: Iterable[str]) -> str:
    """Say that the books of these topics are wrong."""
    return f'accounting does not balance: {", ".join(topics)}'


def mostly_rejected(needed: Iterable[str], accounts: Mapping[str, TopicAccount]) -> str:
    """
    Say of which of the topics that a dataset needs more was refused than written; '' if of none.

    What was refused because the operator paused does not count.
    """
    words = []
    for topic in needed:
        account = accounts.get(topic)
        if account is not None and account.written and account.written < (
                account.rejected - account.rejected_by_cause.get('paused', 0)):
            words.append(f'{topic} ({account.written} written, {account.fate()})')
    return f'more was rejected than recorded of {", ".join(words)}' if words else ''


def silent(needed: Iterable[str], accounts: Mapping[str, TopicAccount]) -> str:
    """Say which of the topics that a dataset needs have no message in the bag; '' if none."""
    words = [f'{topic} ({accounts[topic].fate()})' for topic in needed
             if topic in accounts and not accounts[topic].written]
    return f'nothing was recorded on {", ".join(words)}' if words else ''
