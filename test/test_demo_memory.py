# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of a tree of processes, measured on one whose size is known."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys
import time

from ssl_vla_ros.demo.memory import tree_rss_mb
from ssl_vla_ros.demo.progress import MemoryWatch

#: A child that holds 200 MiB, below one that holds little.
TREE = """
import subprocess, sys
code = 'import sys; held = bytearray(b"x") * (200 << 20); print("ready", flush=True); ' \
       'sys.stdin.read()'
subprocess.run([sys.executable, '-I', '-S', '-c', code])
"""


def test_a_grandchild_counts() -> None:
    before = tree_rss_mb()
    with subprocess.Popen([sys.executable, '-I', '-S', '-c', TREE], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b'ready\n'
        assert 209.0 < tree_rss_mb(child.pid) < 290.0
        assert tree_rss_mb() - before > 204.0
        child.communicate()
    assert tree_rss_mb(child.pid) == 0.0


def test_what_is_outside_the_tree_does_not_count() -> None:
    resident = int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    assert abs(tree_rss_mb() - resident / 1e6) < 20.0


def test_a_process_with_a_strange_name_stops_nothing(tmp_path: Path) -> None:
    program = os.fsencode(tmp_path) + b'/a) \xff ('
    os.symlink(b'/bin/sleep', program)
    with subprocess.Popen([program, b'20']) as strange:
        try:
            assert tree_rss_mb(strange.pid) > 0.0
        finally:
            strange.kill()


def test_the_watch_keeps_the_peak_of_this_and_earlier_runs() -> None:
    watch = MemoryWatch(1e6)
    watch.close()
    assert watch.peak_mb == 1e6
    watch = MemoryWatch()
    end = time.monotonic() + 20.0
    while watch.peak_mb == 0.0 and time.monotonic() < end:
        time.sleep(0.05)
    watch.close()
    assert watch.peak_mb > 5.0
