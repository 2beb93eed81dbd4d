# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Reading one mapping of a robot contract, with errors that name file, key and value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import difflib
import math
import re
from typing import Any

from ssl_vla_ros.errors import ContractError


class Section:
    """A mapping under validation, which knows where it stands in which file."""

    def __init__(self, data: object, source: str, path: str, known: Iterable[str]) -> None:
        self.source = source
        self.path = path
        if not isinstance(data, Mapping):
            raise ContractError(
                f'{source}: {path or "the file"} must be a mapping, '
                f'not {data!r}')
        self.data: Mapping[Any, Any] = data
        known = tuple(known)
        for key in data:
            if key not in known:
                raise ContractError(
                    f'{source}: unknown key {self.name(str(key))!r} '
                    f'(value {data[key]!r}){suggestion(str(key), known)}')

    def name(self, key: str) -> str:
        return f'{self.path}.{key}' if self.path else key

    def fail(self, key: str, value: object, want: str) -> ContractError:
        return ContractError(f'{self.source}: {self.name(key)} is {value!r}, must be {want}')

    def need(self, key: str) -> Any:
        if key not in self.data:
            raise ContractError(
                f'{self.source}: {self.name(key)} is missing; add it '
                '(config/robots/ has complete examples)')
        return self.data[key]

    def text(self, key: str, pattern: re.Pattern[str], want: str) -> str:
        value = self.need(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.fail(key, value, want)
        return value

    def choice(self, key: str, allowed: Iterable[str], default: str | None = None) -> str:
        allowed = tuple(allowed)
        value = self.need(key) if default is None else self.data.get(key, default)
        if value not in allowed:
            raise self.fail(
                key, value,
                f'one of {", ".join(allowed)}{nearest(str(value), allowed)}')
        return str(value)

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.need(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(key, value, f'a whole number from {low} to {high}')
        return value

    def flag(self, key: str) -> bool:
        value = self.data.get(key, False)
        if not isinstance(value, bool):
            raise self.fail(key, value, 'true or false')
        return value

    def number(self, key: str, default: float | None = None, *, low: float = -math.inf,
               above: float = -math.inf) -> float:
        if default is not None and key not in self.data:
            return default
        value = self.need(key)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        # An infinite limit would be no limit at all.
        if not good or not math.isfinite(value) or value < low or value <= above:
            want = 'a finite number'
            if above > -math.inf:
                want = f'a finite number above {above:g}'
            elif low > -math.inf:
                want = f'a finite number, at least {low:g}'
            raise self.fail(key, value, want)
        return float(value)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Words to append to an error: the nearest known name, or all of them."""
    names = list(known)
    return nearest(word, names) or f'; known: {", ".join(names)}'


def nearest(word: str, known: Iterable[str]) -> str:
    """Words to append to an error that lists all names: the nearest one, if one is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean {near[0]!r}?' if near else ''
