# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters and the opening of a bundle, which inference and policy share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
import os
import threading
import time

from ssl_vla_ros.contract import load_contract
from ssl_vla_ros.errors import BundleError, ConfigError
from ssl_vla_ros.nodes.common import Diagnostics, ManagedNode
from ssl_vla_ros.nodes.priority import as_usual, HIGHEST, prefer_process
from ssl_vla_ros.runtime.bundle import Bundle, load_bundle

_TELL_S = 1.0


def declare_model(node: ManagedNode) -> None:
    """
    Declare ``contract``, ``bundle``, ``backend``, ``threads``, ``cores`` and ``thread_priority``.

    The last takes effect at once, for the whole process: of several nodes, the highest holds.

    Raises
    ------
    ConfigError
        If this user may not have that priority.

    """
    node.declare('contract', '', 'robot contract file; empty: the one inside the bundle',
                 fixed=True)
    node.declare('bundle', '', 'directory of the exported bundle', fixed=True)
    node.declare('backend', 'auto', 'auto, cpu, cuda, tensorrt or tensorrt_native', fixed=True)
    node.declare('threads', 1, 'CPU threads of one network', fixed=True, low=1, high=256)
    node.declare('cores', '', 'CPU cores that the networks run on, such as 2,3; empty: any',
                 fixed=True)
    node.declare('thread_priority', 0, 'real-time priority (SCHED_FIFO) of all threads of the '
                 "process; 0: the system's usual scheduling", read_only=True, low=0, high=HIGHEST)
    prefer_process(node.value('thread_priority'))


def wanted_cores(node: ManagedNode) -> tuple[int, ...]:
    """
    Read the parameter ``cores``.

    Raises
    ------
    ConfigError
        If it is no list of cores that this process may use.

    """
    told = node.value('cores')
    if not told.strip():
        return ()
    allowed = os.sched_getaffinity(0)
    try:
        cores = tuple(int(part) for part in told.split(','))
    except ValueError:
        cores = (-1,)
    if not set(cores) <= allowed or len(set(cores)) != len(cores):
        raise ConfigError(
            f'parameter cores is {told!r}, must be numbers of cores that this process may use, '
            f'each once, with commas between them (here: {",".join(map(str, sorted(allowed)))})')
    return cores


def bind_thread(cores: Sequence[int]) -> None:
    """Let the calling thread run on these cores alone; none: leave it as it is."""
    if cores:
        os.sched_setaffinity(0, cores)   # 0 is the thread, not the process


class Initialising:
    """
    Say on ``/diagnostics`` what is being opened, from a thread of its own, once a second.

    The engines of TensorRT take minutes to build, in which a transition keeps the executor, and
    with it whatever the node says of itself.
    """

    def __init__(self, node: ManagedNode) -> None:
        self._node = node
        self._diagnostics = Diagnostics(node)
        self._began = time.monotonic()
        self._doing = 'reading the bundle'
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name='initialising', daemon=True)

    def __enter__(self) -> Callable[[str], None]:
        """Begin; what it gives is called with what is being done."""
        self._thread.start()
        return self._now

    def _now(self, doing: str) -> None:
        self._doing = doing

    def _tell(self) -> None:
        logged = ''
        while not self._over.wait(_TELL_S):
            seconds = time.monotonic() - self._began
            self._diagnostics.publish({'initialising_s': seconds},
                                      summary=f'INITIALISING: {self._doing}')
            if self._doing != logged:
                logged = self._doing
                self._node.get_logger().info(f'{logged} ({seconds:.0f} s so far)')

    def __exit__(self, *_: object) -> None:
        """End; nothing is published after."""
        self._over.set()
        self._thread.join()
        self._diagnostics.destroy()


def open_model(node: ManagedNode, parts: Sequence[str], directory: str = '', told: bool = True
               ) -> Bundle:
    """
    Verify, open and warm up a bundle.

    Parameters
    ----------
    node
        Its parameters say which bundle, on which backend.
    parts
        Networks to open.
    directory
        Instead of the parameter ``bundle``.
    told
        Whether the diagnostics say what is being opened; not while another bundle runs.

    Raises
    ------
    UserError
        If the parameters, the contract or the bundle are wrong.

    """
    directory = directory or node.value('bundle')
    if not directory:
        raise BundleError("parameter bundle is empty; set it to a bundle's directory "
                          '(-p bundle:=models/NAME)')
    contract = load_contract(node.value('contract')) if node.value('contract') else None
    with (as_usual(),
          Initialising(node) if told else nullcontext(lambda _: None) as progress):
        bundle = load_bundle(directory, backend=node.value('backend'),
                             threads=node.value('threads'), robot=contract, parts=parts,
                             cores=wanted_cores(node), progress=progress)
        progress(f'warming up on {bundle.backend}')
        bundle.warm_up()
    node.get_logger().info(
        f'bundle {bundle.manifest.name} ({bundle.manifest.digest[:12]}), threads '
        f'{node.value("threads")}, cores {node.value("cores") or "any"}, thread_priority '
        f'{node.value("thread_priority")}, on {bundle.backend_note or "no backend yet"}')
    return bundle
