# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder's services: start, stop, pause, mark, discard, record again."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import threading
import time
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from ssl_vla_ros.episodes.control import EpisodeControl
from ssl_vla_ros.episodes.discard import discard_finished
from ssl_vla_ros.episodes.edit import relabel
from ssl_vla_ros.episodes.recording import Outcome
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import UserError
from ssl_vla_ros.nodes.common import ManagedNode
from ssl_vla_ros.nodes.recorder_disk import Session
from ssl_vla_ros.nodes.recorder_inputs import Inputs
from ssl_vla_ros.nodes.recorder_report import Reporter
from std_srvs.srv import SetBool, Trigger


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a configured recorder consists of."""

    inputs: Inputs
    session: Session
    control: EpisodeControl
    reporter: Reporter

    def writer_maker(self, node: ManagedNode) -> Callable[[], EpisodeWriter]:
        """
        Give what makes the next episode, as the parameters are now, on whatever thread.

        It raises EpisodeError if the session directory cannot be written.
        """
        return functools.partial(
            EpisodeWriter, self.session.path, self.inputs.contract, task=node.value('task'),
            operator=node.value('operator'), topics=self.inputs.contract.topics(),
            fsync_interval_s=node.value('fsync_interval_s'), bag_topics=self.inputs.resolved,
            compression=node.value('compression'))


class EpisodeServices:
    """
    The services of a recorder, which exist as long as the node does.

    Parameters
    ----------
    node
        The recorder.
    parts
        Gives what it consists of, None while it is not configured.
    changed
        Called when an episode was begun, marked, paused or ended.
    wake
        Called on whatever thread when ``look`` has something to do.

    """

    def __init__(self, node: ManagedNode, parts: Callable[[], Parts | None],
                 changed: Callable[[], None], wake: Callable[[], None]) -> None:
        self._node = node
        self._parts = parts
        self._changed = changed
        self._wake = wake
        self._waiting: list[tuple[str, Future]] = []
        self._starting: Future | None = None
        self._works: list[tuple[list[str], Future]] = []
        # Of their own: a stop waits for its messages, and must not keep them from coming.
        group = ReentrantCallbackGroup()
        for name, handler in (
                ('start_episode', self._on_start), ('stop_episode', self._on_stop),
                ('discard_episode', self._on_discard), ('mark_success', self._on_success),
                ('mark_failure', self._on_failure), ('rerecord_episode', self._on_rerecord)):
            node.create_service(Trigger, f'~/{name}', handler, callback_group=group)
        node.create_service(SetBool, '~/pause', self._on_pause, callback_group=group)

    def look(self) -> None:
        """Answer whoever waits for the start of an episode, or for other work of the disk."""
        parts = self._parts()
        if parts is not None and parts.control.running:
            self._started('')
        for item in list(self._works):
            result, future = item
            if result:
                self._works.remove(item)
                future.set_result(result[0])

    def give_up(self, why: str) -> None:
        """Answer everybody who waits: what they wait for cannot come any more."""
        self._started(why)
        waiting, self._waiting = self._waiting, []
        for name, future in waiting:
            future.set_result(Outcome(name, 'unfinished', why, {}, f'{name}: {why}'))

    def _started(self, refusal: str) -> None:
        future, self._starting = self._starting, None
        if future is not None:
            future.set_result(refusal)

    def _in_background(self, work: Callable[[], str]) -> Future:
        """Let a thread do what waits for the disk; the future gives what went wrong, or ''."""
        result: list[str] = []

        def run() -> None:
            try:
                result.append(work())
            except (UserError, OSError) as error:
                result.append(str(error))
            except BaseException as error:  # a mistake of ours; the operator gets an answer
                result.append(f'unforeseen: {error!r}')
            with contextlib.suppress(Exception):  # the node may be gone by now
                self._wake()
        future = Future()
        self._works.append((result, future))
        threading.Thread(target=run, name='disk-work').start()
        return future

    def ended(self, outcome: Outcome) -> None:
        """Answer whoever waits for the end of an episode."""
        parts = self._parts()
        # That of an earlier part of a long recording may come while the next one is being started.
        if outcome.status == 'refused' or parts is None or parts.control.phase == 'idle':
            self._started(outcome.told or f'{outcome.name} has ended already')
        for name, future in self._waiting:
            if name == outcome.name:
                future.set_result(outcome)
        self._waiting = [item for item in self._waiting if item[0] != outcome.name]

    async def _on_start(self, _request: Any, response: Any) -> Any:
        parts = self._parts()
        response.message = self._no_start()
        if response.message or parts is None:
            return response
        inputs, control = parts.inputs, parts.control
        begins_ns = inputs.begins_ns()
        try:
            control.start(parts.writer_maker(self._node), begins_ns)
        except UserError as error:
            response.message = str(error)
            return response
        if begins_ns is not None:
            control.notes['pre_roll_s'] = (time.time_ns() - begins_ns) / 1e9
        inputs.begin()
        self._changed()
        # It runs already; the answer comes when the disk has a place for it.
        self._starting = Future()
        response.message = await self._starting
        inputs.begun(opened=not response.message)
        if not response.message:
            response.success, response.message = True, str(control.name)
        return response

    def _no_start(self) -> str:
        """Say why no episode could be started now; '' if one could."""
        parts = self._parts()
        if parts is None or self._node.state_label != 'active':
            return f'the recorder is {self._node.state_label}; configure and activate it first'
        # One that is open already says so itself.
        return '' if parts.control.phase != 'idle' else (
            parts.inputs.not_ready() or parts.session.room()[1])

    def _running(self, response: Any) -> EpisodeControl | None:
        """Give the control of an episode being recorded, or say in the response that none is."""
        parts = self._parts()
        if parts is not None and parts.control.phase == 'starting':
            response.message = 'an episode is being started; wait for it first'
            return None
        if parts is None or not parts.control.running:
            last = None if parts is None else parts.control.last
            response.message = 'no episode is being recorded; start one first' + (
                f' (the last one: {last.told})' if last is not None and last.told else '')
            return None
        response.message = str(parts.control.name)
        return parts.control

    async def _on_stop(self, _request: Any, response: Any) -> Any:
        return await self._end_episode(response, discard=False)

    async def _on_discard(self, _request: Any, response: Any) -> Any:
        return await self._end_episode(response, discard=True)

    async def _end_episode(self, response: Any, *, discard: bool) -> Any:
        control = self._running(response)
        if control is None:
            return response
        control.stop(reason='discarded by the operator' if discard else '', discard=discard)
        self._changed()
        future = Future()
        self._waiting.append((str(control.name), future))
        outcome: Outcome = await future
        response.success = outcome.status == ('discarded' if discard else 'complete')
        if not response.success:
            response.message = outcome.told
        return response

    async def _on_rerecord(self, request: Any, response: Any) -> Any:
        """Throw the open episode away, or the last one if none is open, and start the next."""
        parts = self._parts()
        response.message = self._no_start()
        if response.message:
            return response                  # nothing is thrown away for nothing
        if parts is not None and parts.control.running:
            name = str(parts.control.name)
            if not (await self._end_episode(response, discard=True)).success:
                return response
        else:
            name, response.message = await self._discard_last(parts)
            if response.message:
                return response
        response.success = False
        if (await self._on_start(request, response)).success:
            self._node.get_logger().info(
                f'{name} is discarded; {response.message} takes its place')
        else:
            response.message = f'{name} is discarded; no new one was started: {response.message}'
        return response

    async def _discard_last(self, parts: Parts | None) -> tuple[str, str]:
        """Throw the last finished episode away; gives its name, and why it was not possible."""
        last = None if parts is None else parts.control.last
        if parts is None or last is None or parts.control.phase != 'idle' or (
                last.status not in ('complete', 'incomplete')):
            return '', ('there is no episode of this recorder to be recorded again; start one '
                        'with start_episode')
        path = parts.session.path / last.name

        def discard() -> str:
            discard_finished(path, 'recorded again')
            return ''
        wrong = await self._in_background(discard)
        if not wrong and parts.control.last is last:
            parts.control.last = dataclasses.replace(
                last, status='discarded', reason='recorded again')
        return last.name, str(wrong)

    async def _on_success(self, _request: Any, response: Any) -> Any:
        return await self._mark(response, True)

    async def _on_failure(self, _request: Any, response: Any) -> Any:
        return await self._mark(response, False)

    async def _mark(self, response: Any, success: bool) -> Any:
        """Note the outcome of the open episode, or, if none is open, of the one just finished."""
        parts = self._parts()
        last = None if parts is None else parts.control.last
        if parts is None or last is None or parts.control.phase != 'idle' or (
                last.status not in ('complete', 'incomplete')):
            control = self._running(response)
            if control is not None:
                control.success, response.success = success, True
                self._changed()
            return response
        session = parts.session.path
        number = last.name.removeprefix('episode_')

        def mark() -> str:
            relabel(session, number, success='yes' if success else 'no').apply(
                lambda *_: None)
            return ''
        wrong = str(await self._in_background(mark))
        response.success, response.message = not wrong, wrong or last.name
        return response

    def _on_pause(self, request: Any, response: Any) -> Any:
        control, parts = self._running(response), self._parts()
        if control is not None and parts is not None:
            parts.inputs.poll()  # what has come already is not meant
            control.books.paused = bool(request.data)
            response.success = True
            self._changed()
        return response
