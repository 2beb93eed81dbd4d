# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Record demonstrations until a session holds enough of them.

Conducts four nodes through their public interfaces: the arm is put to its next start, the recorder
begins, the teleoperator drives, the outcome is marked, the recorder stops. Start and demonstration
numbers follow from the episodes already in the session: so a collection that was stopped goes on
where it ended.
"""

from __future__ import annotations

from pathlib import Path
import sys

from rcl_interfaces.srv import SetParameters
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.errors import UserError
from ssl_vla_ros.nodes.director import direct, Director, DirectorError
from std_srvs.srv import Trigger

#: A demonstration that takes longer than this is given up (seconds of the steady clock).
_DRIVE_S = 60.0
#: Longest wait for the recorder to hear the arm, and to be done with the last episode (seconds).
_READY_S = 15.0
#: What each node that is asked tells of itself.
_STATES = ('sim_arm/state', 'teleop/state', 'recorder/state')


class Collect(Director):
    """Records demonstrations one after the other."""

    def __init__(self) -> None:
        super().__init__('collect')
        self.declare('session_dir', '', "the recorder's session directory", read_only=True)
        self.declare('episodes', 100, 'successful demonstrations wanted', low=1)
        self.declare('attempts', 0, 'most demonstrations given; 0: twice those wanted', low=0)
        self.declare('first_start', 0, 'start number of the first demonstration', low=0)
        self._recording = self._driving = False
        for node in ('sim_arm', 'teleop'):
            self.make_clients(SetParameters, f'{node}/set_parameters')
        self.make_clients(
            Trigger, 'sim_arm/randomise', 'teleop/start', 'teleop/stop', *(
                f'recorder/{service}' for service in (
                    'start_episode', 'mark_success', 'mark_failure', 'stop_episode',
                    'discard_episode')))
        for topic in _STATES:
            self.watch(topic)

    def _count(self) -> tuple[int, int]:
        """Successful, and all finished episodes of the session."""
        session = Path(self.value('session_dir'))
        if not session.is_dir():
            return 0, 0
        good = total = 0
        for path in list_episodes(session):
            total += 1
            episode = Episode.open(path)
            # One that a dataset refuses, however well it went, is made up for.
            good += episode.info.get('success') is True and not episode.faults
        return good, total

    def script(self) -> None:
        """Record until there are enough."""
        if not self.value('session_dir'):
            raise UserError('collect: session_dir is empty; give the session directory')
        wanted = self.value('episodes')
        most = self.value('attempts') or 2 * wanted
        good, total = self._count()
        print(f'collected {good} {wanted}', flush=True)
        while good < wanted:
            if total >= most:
                raise DirectorError(
                    f'{total} demonstrations gave only {good} of {wanted} successes; look at the '
                    'failed ones in the session, or raise attempts')
            good += self._demonstrate(self.value('first_start') + total)
            total += 1
            print(f'collected {good} {wanted}', flush=True)

    def _demonstrate(self, number: int) -> bool:
        for topic in _STATES:
            self.wait_for_state(topic)
        self.set_remote('sim_arm', 'next_start', number)
        self.set_remote('teleop', 'next_demonstration', number)
        self.trigger('sim_arm/randomise')
        episode = self._start_recording()
        self._driving = True
        self.trigger('teleop/start')

        def over() -> bool:
            self._check_recording(episode)
            teleop = self.state('teleop/state')
            return teleop.get('demonstration') == number and teleop.get('state') == 'done'

        if not self.wait_until(over, _DRIVE_S):
            raise DirectorError(
                f'the teleoperator did not finish demonstration {number} in {_DRIVE_S:.0f} s')
        self._driving = False
        success = bool(self.state('sim_arm/state').get('lifted')) and (
            self.state('teleop/state').get('reason') == 'held')
        self.trigger('recorder/mark_success' if success else 'recorder/mark_failure')
        self.trigger('recorder/stop_episode')
        self._recording = False
        return success

    def _start_recording(self) -> str:
        # The recorder names what it still waits for, such as a camera that nobody publishes.
        def ready() -> bool:
            state = self.state('recorder/state')
            return (state.get('lifecycle') == 'active' and state.get('state') == 'idle'
                    and not state.get('waiting_for'))

        if not self.wait_until(ready, _READY_S):
            state = self.state('recorder/state')
            reason = 'it publishes no state; is it running?'
            if state:
                reason = state.get('waiting_for') or (
                    f'it is {state.get("lifecycle")} and {state.get("state")}; its log says why')
            raise DirectorError(f'the recorder is not ready: {reason}')
        # Before the answer: a signal may come in between.
        self._recording = True
        return self.trigger('recorder/start_episode')

    def _check_recording(self, episode: str) -> None:
        last = self.state('recorder/state').get('last') or {}
        if last.get('episode') == episode:
            raise DirectorError(
                f'the recorder ended {episode} by itself: {last.get("status")}, '
                f'{last.get("error") or last.get("reason") or "no reason given"}')

    def finish(self) -> None:
        """Throw away a demonstration that was cut short: it would teach to stop half way."""
        if self._recording:
            self._recording = False
            self.undo('recorder/discard_episode', self.trigger)
        if self._driving:
            self._driving = False
            self.undo('teleop/stop', self.trigger)


def main(args: list[str] | None = None) -> int:
    """Run the node; returns the exit status."""
    return direct(Collect, args)


if __name__ == '__main__':
    sys.exit(main())
