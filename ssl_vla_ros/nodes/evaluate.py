# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Roll a policy out on the simulated arm, through the nodes that would run it on a real one.

For each start: the arm is put there, inference forgets what it saw, the policy is enabled until
the cube is up or time is over, and disabled. Results go to a JSON file after every rollout: so an
evaluation that was stopped goes on where it ended.
"""

from __future__ import annotations

import json
from pathlib import Path
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image

from ssl_vla_ros.errors import UserError
from ssl_vla_ros.messages.images import to_rgb
from ssl_vla_ros.nodes.director import direct, Director, DirectorError, RefusedError
from std_srvs.srv import SetBool, Trigger

#: Time the policy has to see features and joints of a new start (seconds of the steady clock).
_FRESH_S = 10.0
#: What each node that is asked tells of itself.
_STATES = ('sim_arm/state', 'inference/model_info', 'policy/status')


class Evaluate(Director):
    """Counts how often the enabled policy lifts the cube."""

    def __init__(self) -> None:
        super().__init__('evaluate')
        self.declare('rollouts', 20, 'starts tried', low=1)
        self.declare('first_start', 0, 'start number of the first rollout', low=0)
        self.declare('limit_s', 6.5, 'of one rollout, seconds of the steady clock', low=0.5)
        self.declare('result', '', 'JSON file for the results', read_only=True)
        self.declare('film', '', 'numpy file for the pictures of the first success, or of the '
                     'first rollout while there is none; empty: none',
                     read_only=True)
        self.make_clients(SetParameters, 'sim_arm/set_parameters')
        self.make_clients(Trigger, 'sim_arm/randomise', 'inference/reset')
        self.make_clients(SetBool, 'policy/enable')
        for topic in _STATES:
            self.watch(topic)
        self.watch_diagnostics()
        self._enabled = False
        self._pictures: list[NDArray[np.uint8]] | None = None   # of the rollout that runs
        self._taken: list[NDArray[np.uint8]] = []               # of the one before
        self.create_subscription(Image, 'camera/front/image_raw', self._film, 5)
        # Inference works out what somebody listens to: its figures are to hold for all of it.
        for output in ('prediction', 'surprise'):
            self.create_subscription(Image, f'inference/{output}', lambda message: None, 1)

    def _film(self, message: Image) -> None:
        if self._pictures is not None:
            self._pictures.append(to_rgb(message))

    def script(self) -> None:
        """Roll out every start that has no result yet."""
        if not self.value('result'):
            raise UserError('evaluate: result is empty; give the JSON file for the results')
        path = Path(self.value('result'))
        results = _read_results(path)
        wanted = self.value('rollouts')
        done = results['rollouts']
        if 'inference' in results:
            # An evaluation that was stopped: that process's counters ended with it.
            results.setdefault('earlier', []).append(results.pop('inference'))
        print(f'rolled out {len(done)} {wanted}', flush=True)
        while len(done) < wanted:
            number = self.value('first_start') + len(done)
            # The first success is kept; until there is one, the first rollout.
            wanted_film = self.value('film') and not results.get('film', {}).get('success')
            done.append(self._roll_out(number, bool(wanted_film)))
            if wanted_film and (done[-1]['success'] or 'film' not in results):
                _save_film(Path(self.value('film')), self._taken)
                results['film'] = {'start': number, 'success': done[-1]['success']}
            results['inference'] = self._inference()
            results['policy'] = self.state('policy/status')
            part = path.with_name(path.name + '.part')
            part.write_text(json.dumps(results, indent=1), encoding='utf-8')
            part.replace(path)
            lifted = sum(item['success'] for item in done)
            print(f'rolled out {len(done)} {wanted} lifted {lifted}', flush=True)

    def _roll_out(self, number: int, film: bool) -> dict[str, Any]:
        for topic in _STATES:
            self.wait_for_state(topic)
        self.set_remote('sim_arm', 'next_start', number)
        self.trigger('sim_arm/randomise')
        self.trigger('inference/reset')
        # Three pictures of the new start: a head that sees history must not see the old one.
        self.spin_for(0.3)
        self._pictures = [] if film else None
        self._enable()
        began = time.monotonic()
        lifted = self.wait_until(self._over(number), self.value('limit_s'))
        status = self.state('policy/status')
        halted = status.get('state') == 'halted'
        success = lifted and bool(self.state('sim_arm/state').get('lifted'))
        self._taken, self._pictures = self._pictures or [], None
        self._disable()
        return {'start': number, 'success': success, 'seconds': time.monotonic() - began,
                'halted': str(status.get('reason', '')) if halted else ''}

    def _enable(self) -> None:
        """Enable the policy; it refuses for as long as its inputs are not there yet."""
        # Before the answer: a signal may come in between.
        self._enabled = True
        end = time.monotonic() + _FRESH_S
        while True:
            try:
                self.switch('policy/enable', True)
                return
            except RefusedError:
                if time.monotonic() > end:
                    raise
            self.spin_for(0.2)

    def _disable(self) -> None:
        """
        Disable the policy and wait until its halt is over.

        A halt goes on commanding for some ticks and holds the gripper as it is: into the next
        start it would carry a closed gripper, which no demonstration begins with.
        """
        told = self.told('policy/status')
        self.switch('policy/enable', False)
        self._enabled = False

        def at_rest() -> bool:
            status = self.state('policy/status')
            return (self.told('policy/status') > told and status.get('state') != 'enabled'
                    and status.get('stopping') is False)

        if not self.wait_until(at_rest, _FRESH_S):
            raise DirectorError(
                f'the policy did not end its halt within {_FRESH_S:.0f} s after it was disabled')

    def _over(self, number: int) -> Any:
        def over() -> bool:
            arm = self.state('sim_arm/state')
            lifted = arm.get('start') == number and bool(arm.get('lifted'))
            return lifted or self.state('policy/status').get('state') == 'halted'
        return over

    def _inference(self) -> dict[str, float]:
        # Diagnostics come once a second: wait for one that has counted this rollout.
        before = self.diagnosed('inference')
        if not self.wait_until(
                lambda: bool(found := self.diagnosed('inference')) and found is not before, 5.0):
            raise DirectorError('inference publishes no diagnostics; is it active?')
        values = self.diagnosed('inference')
        return {key: float(value) for key, value in values.items() if _is_number(value)}

    def finish(self) -> None:
        """Never leave an enabled policy behind."""
        if self._enabled:
            self._enabled = False
            self.undo('policy/enable', lambda service: self.switch(service, False))


def _read_results(path: Path) -> dict[str, Any]:
    """Results of an evaluation that was stopped; empty ones if there are none."""
    if not path.exists():
        return {'rollouts': []}
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        list(results['rollouts'])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{path}: broken ({type(error).__name__}: {error}); delete it to evaluate anew'
        ) from error
    return results


def _save_film(path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    if not pictures:
        raise DirectorError('no picture of the front camera came during a rollout')
    part = path.with_name(path.name + '.part')
    with part.open('wb') as file:
        np.save(file, np.stack(pictures))
    part.replace(path)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def main(args: list[str] | None = None) -> int:
    """Run the node; returns the exit status."""
    return direct(Evaluate, args)


if __name__ == '__main__':
    sys.exit(main())
