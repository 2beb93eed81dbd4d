# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What each product of the demo was made from, so that none outlives what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
from pathlib import Path
import shutil

from ssl_vla_ros.episodes.bag import write_durably


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
    Remembers the fingerprint of each product's sources, in a small file for each.

    Parameters
    ----------
    work
        Directory of the products; the fingerprints lie in ``origins/`` below it.

    """

    def __init__(self, work: Path) -> None:
        self._work = work

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
            note = self._work / 'origins' / name
            if note.exists() and note.read_text(encoding='utf-8') == made_from:
                continue
            if product.exists():
                if product.is_dir():
                    shutil.rmtree(product)
                else:
                    product.unlink()
                removed.append(name)
            note.parent.mkdir(parents=True, exist_ok=True)
            write_durably(note, made_from)
        return removed
