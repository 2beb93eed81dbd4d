# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Load the next bundle beside the one that runs, so that no tick waits for it."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from ssl_vla_ros.contract import Contract, require_compatible
from ssl_vla_ros.errors import BundleError, ContractError, UserError
from ssl_vla_ros.runtime.bundle import Bundle
from std_srvs.srv import Trigger


def misfit(old: Bundle, new: Bundle) -> str:
    """Say why one bundle cannot take another's place while its topics stay; '' if it can."""
    before, after = old.manifest, new.manifest
    try:
        require_compatible(after.contract, old.contract, str(after.path))
    except ContractError as error:
        return str(error)
    for what, one, two in (
            ('cameras', before.encoder.cameras, after.encoder.cameras),
            ('networks', old.parts, new.parts),
            ('cameras of the contract', _cameras(old.contract), _cameras(new.contract)),
            ('action topics', _streams(old.contract), _streams(new.contract)),
            ('sync', before.contract.sync, after.contract.sync)):
        if one != two:
            return (f'{after.path}: {what} is {two}, the running bundle has {one}: clean the node '
                    'up and configure it with this bundle')
    return ''


def _cameras(contract: Contract) -> list[tuple[str, ...]]:
    return [(camera.name, camera.topic, camera.type, camera.reliability)
            for camera in contract.cameras]


def _streams(contract: Contract) -> list[tuple[str, str]]:
    return [(stream.topic, stream.type) for stream in contract.action]


class BundleSwap:
    """
    The service ``~/swap``: answers when the next bundle runs, or why it does not.

    Opening and warming up take a thread of their own; onnxruntime gives the interpreter free for
    it (longest pause measured: 10 ms), and pictures go on being encoded by the old bundle.

    Parameters
    ----------
    node
        Whose service it is.
    current
        Gives the bundle that runs, or None.
    load
        Opens and warms up what is wanted now; may raise a ``UserError``.
    take_over
        Puts a bundle in the other's place.

    """

    def __init__(self, node: Node, current: Callable[[], Bundle | None],
                 load: Callable[[], Bundle], take_over: Callable[[Bundle], None]) -> None:
        self._node = node
        self._current = current
        self._load = load
        self._take_over = take_over
        self._busy = False
        self._thread: threading.Thread | None = None
        # In a group of its own: while it waits, nothing else of its group is called.
        node.create_service(Trigger, '~/swap', self._on_request,
                            callback_group=MutuallyExclusiveCallbackGroup())

    async def _on_request(self, _request: Any, response: Any) -> Any:
        running = self._current()
        response.success = False
        if running is None:
            response.message = 'no bundle runs: configure the node'
            return response
        if self._busy:
            response.message = 'a bundle is being loaded already'
            return response
        self._busy = True
        try:
            found = await self._loaded()
        finally:
            self._busy = False
        if isinstance(found, Bundle):
            reason = misfit(running, found)
            if not reason and self._current() is not running:
                reason = 'the node was cleaned up while the bundle was loaded'
        else:
            reason = str(found)
        if reason:
            self._node.get_logger().error(f'the bundle stays as it is: {reason}')
            response.message = reason
            return response
        assert isinstance(found, Bundle)
        self._take_over(found)
        response.success = True
        response.message = (f'{found.manifest.name} ({found.manifest.digest[:12]}) on '
                            f'{found.backend} takes the next picture')
        return response

    def _loaded(self) -> Future:
        """Load in a thread; the result is a bundle, or what went wrong."""
        future = Future(executor=self._node.executor)
        executor = self._node.executor

        def work() -> None:
            try:
                found: Bundle | Exception = self._load()
            except UserError as error:
                found = error
            except Exception as error:  # or the service would never answer
                found = BundleError(f'cannot load the bundle: {error!r}')
            future.set_result(found)
            if executor is not None:
                executor.wake()   # an executor looks at what waits when it is awake

        self._thread = threading.Thread(target=work, name='swap', daemon=True)
        self._thread.start()
        return future

    def close(self, seconds: float) -> None:
        """Wait for a bundle that is being loaded, so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)
