# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What the gate says of an episode: good, doubtful or refused, and every reason for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

GOOD, DOUBTFUL, REFUSED = 'good', 'doubtful', 'refused'
#: Severity of what is worth knowing and does not count against an episode.
NOTE = 'note'
#: Worst first.
SEVERITIES = (REFUSED, DOUBTFUL, NOTE)


@dataclass(frozen=True)
class Reason:
    """
    One thing that a check found.

    Attributes
    ----------
    key
        The check, as in docs/quality.md: ``frozen``, ``gap`` …
    severity
        ``refused``, ``doubtful`` or ``note``.
    stream
        The stream's label (``image.front``), '' of the episode as a whole.
    value, threshold
        What was measured, and the bound it is over (or under); None where it is no number.
    text
        What is wrong and what to do about it, in one sentence.

    """

    key: str
    severity: str
    stream: str
    value: float | None
    threshold: float | None
    text: str

    def line(self) -> str:
        """Return the reason for people, on one line."""
        where = f'{self.stream}: ' if self.stream else ''
        return f'{self.severity}: {self.key}: {where}{self.text}'


@dataclass(frozen=True)
class Verdict:
    """
    The judgement on one episode.

    Attributes
    ----------
    name
        The episode, for people.
    reasons
        Worst first; empty for an episode without any fault.

    """

    name: str
    reasons: tuple[Reason, ...]

    @classmethod
    def of(cls, name: str, reasons: Sequence[Reason]) -> Verdict:
        """Put the reasons in order, the worst first."""
        return cls(name, tuple(sorted(
            reasons, key=lambda reason: SEVERITIES.index(reason.severity))))

    @property
    def level(self) -> str:
        """``good``, ``doubtful`` or ``refused``: as bad as the worst reason; a note is none."""
        worst = self.reasons[0].severity if self.reasons else NOTE
        return GOOD if worst == NOTE else worst

    @property
    def refused(self) -> bool:
        """Whether the episode must not be trained on."""
        return self.level == REFUSED

    def because(self) -> str:
        """Say why it is not good, on one line; '' if it is."""
        return '; '.join(
            f'{reason.stream}: {reason.text}' if reason.stream else reason.text
            for reason in self.reasons if reason.severity == self.level)

    def keys(self, severity: str | None = None) -> tuple[str, ...]:
        """Return the checks that found something, once each."""
        return tuple(dict.fromkeys(
            reason.key for reason in self.reasons
            if severity is None or reason.severity == severity))

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready values."""
        return {'name': self.name, 'verdict': self.level,
                'reasons': [asdict(reason) for reason in self.reasons]}


def grade(value: float, doubtful: float, refused: float | None = None
          ) -> tuple[str, float] | None:
    """
    Hold a value that should be small against its bounds.

    Returns
    -------
    tuple or None
        Severity and the bound that is passed; None if it is within both. ``refused`` None: the
        check never refuses.

    """
    if refused is not None and value >= refused:
        return REFUSED, refused
    if value > doubtful:
        return DOUBTFUL, doubtful
    return None
