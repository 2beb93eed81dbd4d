# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What each product of the demo was made from, so that none outlives what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
from pathlib import Path
import shutil
from typing import Any


def fingerprint(texts: Iterable[str] = (), files: Iterable[Path] = ()) -> str:
    """SHA-256 over texts and the content of files, in the order given; a missing file counts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(b'text' + hashlib.sha256(text.encode()).digest())
    for path in files:
        if path.exists():
            digest.update(b'file' + hashlib.sha256(path.read_bytes()).digest())
        else:
            digest.update(b'none')
    return digest.hexdigest()


class Origins:
    """
    Remembers the fingerprint of each product's sources, by the product's name.

    Parameters
    ----------
    work
        Directory of the products.
    known
        Name to fingerprint, as an earlier run left it; changed in place.

    """

    def __init__(self, work: Path, known: dict[str, Any]) -> None:
        self._work = work
        self._known = known

    def renew(self, made_from: str, *products: Path) -> list[str]:
        """
        Remove products that were made from something else; they are to be made anew.

        A product without a known origin is removed, too: nothing says what it was made from.

        Returns
        -------
        list[str]
            Names of what was removed.

        """
        removed = []
        for product in products:
            name = str(product.relative_to(self._work))
            if product.exists() and self._known.get(name) != made_from:
                if product.is_dir():
                    shutil.rmtree(product)
                else:
                    product.unlink()
                removed.append(name)
            self._known[name] = made_from
        return removed
