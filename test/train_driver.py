# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Trains what a JSON list on the command line asks for; a launcher starts several of it.

Each item holds ``data`` and ``out``, ``words`` (``key=value`` over the package's SimCLR
configuration) and ``stop``: the number of the batch at which the process gets a SIGTERM, or null.
Many runs in one process: most of a short run is the import of torch.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import sys
from unittest.mock import patch

from ssl_vla_ros.training.clip_source import ClipSource
from ssl_vla_ros.training.config import load_train_config
from ssl_vla_ros.training.train import train
from tiny_training import CONFIGS
import torch


def train_until(data: str, out: str, words: list[str], stop: int | None) -> None:
    """Train until the batch ``stop`` is drawn, or to the end."""
    original = ClipSource.batch

    def batch(self: ClipSource, step: int) -> dict[str, torch.Tensor]:
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, step)
    with patch.object(ClipSource, 'batch', batch):
        config = load_train_config(CONFIGS / 'simclr.yaml', words)
        done = train(config, Path(data), Path(out), quiet=True).info['step']
    assert (done < config.steps) == (stop is not None), done


if __name__ == '__main__':
    for job in json.loads(sys.argv[1]):
        train_until(**job)
