# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""YAML as people write it by hand: safe, and without keys that are given twice."""

from __future__ import annotations

from typing import Any

import yaml


class _UniqueKeys(yaml.SafeLoader):
    """
    The safe loader, but a repeated key is an error.

    YAML forbids it, PyYAML takes the last one: of two cameras with one name the first would be
    gone without a word.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == 'tag:yaml.org,2002:merge':
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key {key!r} is given twice', key_node.start_mark)
            if isinstance(key, str | int | float | bool):
                seen.add(key)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def load_yaml(text: str) -> object:
    """
    Read one YAML document of plain values.

    Raises
    ------
    yaml.YAMLError
        If it is no YAML, asks for anything but plain values, or gives a key twice.

    """
    return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a safe loader, only stricter


def yaml_problem(error: yaml.YAMLError) -> str:
    """Say what is wrong with a document on one line, and where."""
    return ' '.join(str(error).replace('"<unicode string>", ', '').split())
