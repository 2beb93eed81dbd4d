# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Findings about many episodes, said once each."""

from __future__ import annotations


class Notes:
    """What was found wrong: the same finding in several episodes is said once."""

    def __init__(self) -> None:
        self._found: dict[str, list[int]] = {}

    def add(self, text: str, episode: int | None = None) -> None:
        """Take down a finding, about one episode or about the whole dataset."""
        episodes = self._found.setdefault(text, [])
        if episode is not None:
            episodes.append(episode)

    def lines(self) -> list[str]:
        """Return one line for each finding."""
        return [text if not episodes else f'{text} (episodes {_ranges(episodes)})'
                for text, episodes in self._found.items()]


def _ranges(numbers: list[int]) -> str:
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ', '.join(str(low) if low == high else f'{low}-{high}' for low, high in parts)
