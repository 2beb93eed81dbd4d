# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's stages, each of which goes on with what an earlier run has left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import time
from typing import Any

from ssl_vla_ros.demo.guard import read_json, read_rollouts
from ssl_vla_ros.demo.jobs import Job, run_jobs
from ssl_vla_ros.demo.origins import fingerprint, Origins
from ssl_vla_ros.demo.plan import IN_PROCESS, Plan, POLICIES, RECORD_SEED, ROLLOUT_SEED
from ssl_vla_ros.demo.processes import choose_domain, Fleet, node_command, ros_environment
from ssl_vla_ros.demo.progress import MemoryWatch, Stage
from ssl_vla_ros.episodes.bag import write_durably
from ssl_vla_ros.places import share

#: What a finished training leaves.
_WEIGHTS = 'model.safetensors'


class Demo:
    """One demo in its directory; every stage finds out by itself what is left to do."""

    def __init__(self, out: Path, plan: Plan) -> None:
        self.out = out
        self.plan = plan
        self.work = out / plan.name
        self.session = self.work / 'episodes'
        self.data = self.work / 'dataset'
        self.runs = self.work / 'runs'
        self.bundle = self.work / 'bundle'
        self.results = self.work / 'rollouts'
        self.logs = self.work / 'logs'
        self.contract = share('config/robots/sim_ur5e.yaml')
        self.film = self.results / 'film.npy'
        self.probes = self.work / 'probes.json'
        self._file = self.work / 'stages.json'
        self.stages: dict[str, Any] = {}
        if self._file.exists():
            self.stages = read_json(self._file, 'delete it: nothing but the times is lost')
        self._origins = Origins(self.work)
        self._began = time.monotonic()
        #: How often this run has found something left to do.
        self._works = 0
        self.memory = MemoryWatch(float(self.stages.get('peak_rss_mb', 0.0)))

    @property
    def worked(self) -> bool:
        """Whether this run has found anything left to do."""
        return self._works > 0

    def work_begins(self) -> None:
        """Say that there is something left to do: the time of this stage, and this run, counts."""
        self._works += 1

    def wall_s(self) -> float:
        """Time of all runs that had something to do, this one up to now included."""
        before = float(self.stages.get('wall_s', 0.0))
        return before + (time.monotonic() - self._began if self.worked else 0.0)

    def close(self) -> None:
        """Stop watching and keep what is known; the end of a run, however it came."""
        self.memory.close()
        self.stages['wall_s'] = self.wall_s()
        self._works = 0
        self.save()

    def save(self) -> None:
        """Write what is known of the stages."""
        self.stages['peak_rss_mb'] = self.memory.peak_mb
        write_durably(self._file, json.dumps(self.stages, indent=1))

    def made_from(self, origin: str, *products: Path) -> bool:
        """
        Remove products made from something else than ``origin``; whether any is missing now.

        The origin is written down before anything is made: what is half made then goes on.
        """
        for name in self._origins.renew(origin, *products):
            print(f'{name} was made from something else than is here now: it is made anew',
                  flush=True)
        return not all(product.exists() for product in products)

    @contextmanager
    def stage(self, number: int, name: str, unit: str = '') -> Iterator[Stage]:
        """Time a stage that has work to do, also one that is broken off."""
        shown = Stage(f'{number}/8 {name}', unit)
        works = self._works
        try:
            yield shown
        finally:
            if self._works > works:
                times = self.stages.setdefault('seconds', {})
                times[name] = times.get(name, 0.0) + shown.seconds
                self.save()

    # -- stages ----------------------------------------------------------------------------

    def record(self) -> None:
        """Record demonstrations over DDS, until there are enough."""
        from ssl_vla_ros.episodes.reader import Episode, list_episodes
        from ssl_vla_ros.episodes.recover import recover_session
        plan = self.plan
        self.session.mkdir(parents=True, exist_ok=True)
        with self.stage(1, 'record', 'episodes') as shown:
            recover_session(self.session)
            good = sum(Episode.open(path).info.get('success') is True
                       for path in list_episodes(self.session))
            if good < plan.episodes:
                self.work_begins()
                domain = choose_domain()
                with Fleet(self.logs, ros_environment(domain, self.logs / 'ros')) as fleet:
                    clock = {'use_sim_time': True}
                    fleet.start('sim_arm', node_command('sim_arm', {
                        'seed': RECORD_SEED, 'speed': plan.speed, 'publish_clock': True}))
                    fleet.start('teleop', node_command('teleop', {**clock, 'seed': RECORD_SEED}))
                    fleet.start('recorder', node_command('recorder', {
                        **clock, 'contract': self.contract, 'session_dir': self.session,
                        'task': 'lift the red cube', 'operator': 'scripted expert',
                        'autostart': True}))

                    def on_line(line: str) -> None:
                        words = line.split()
                        if words[:1] == ['collected']:
                            shown.update(int(words[1]), int(words[2]))

                    fleet.conduct('collect', node_command('collect', {
                        'session_dir': self.session, 'episodes': plan.episodes}), on_line)
            totals = self.accounts()
            shown.done(f'{plan.episodes} successful episodes, '
                       f'{sum(totals["written"].values())} messages, '
                       f'{sum(totals["lost"].values())} lost')

    def accounts(self) -> dict[str, dict[str, int]]:
        """Messages of all finished episodes by what became of them and by topic."""
        from ssl_vla_ros.episodes.reader import Episode, list_episodes
        totals: dict[str, Counter[str]] = {
            key: Counter() for key in ('published', 'written', 'lost', 'dropped', 'rejected')}
        for path in list_episodes(self.session):
            for topic, account in Episode.open(path).info['counts'].items():
                for key, counter in totals.items():
                    counter[topic] += int(account[key])
        return {key: dict(counter) for key, counter in totals.items()}

    def build(self) -> None:
        """Align the episodes to a dataset."""
        from ssl_vla_ros.contract import load_contract
        from ssl_vla_ros.dataset.build import build_dataset
        from ssl_vla_ros.dataset.lerobot_v3 import Dataset
        from ssl_vla_ros.episodes.reader import list_episodes
        from ssl_vla_ros.parallel import default_workers
        episodes = list_episodes(self.session)
        origin = fingerprint((path.name for path in episodes), [
            self.contract, *(path / 'episode.json' for path in episodes)])
        with self.stage(2, 'build', 'episodes') as shown:
            if self.made_from(origin, self.data):
                self.work_begins()
                report = build_dataset(self.session, self.data, load_contract(self.contract),
                                       progress=shown.callback(), workers=default_workers())
                (self.logs / 'build.txt').write_text(report.text() + '\n', encoding='utf-8')
            dataset = Dataset.open(self.data)
            refused = len(episodes) - dataset.num_episodes
            shown.done(f'{dataset.num_rows} aligned rows in {dataset.num_episodes} episodes'
                       + (f', {refused} refused (see {self.logs / "build.txt"})'
                          if refused else ''))

    def training(self, config: str, run: str, *overrides: str) -> Job:
        """One training into ``runs/``, after removing one of another making."""
        from ssl_vla_ros.dataset.lerobot_v3 import Dataset
        source, place = share(f'config/train/{config}.yaml'), self.runs / run
        origin = fingerprint(
            [Dataset.open(self.data).digest(), *overrides],
            [source, *([] if run == 'encoder' else [self.runs / 'encoder' / _WEIGHTS])])
        self.made_from(origin, place)
        if not (place / _WEIGHTS).exists():
            self.work_begins()
        return Job(run, ('train', '--config', str(source), '--data', str(self.data), '--out',
                         str(place), *overrides))

    def pretrain(self) -> None:
        """Pretrain the encoder without labels."""
        plan = self.plan
        with self.stage(3, 'pretrain', 'steps') as shown:
            job = self.training(
                'keypoints', 'encoder', f'steps={plan.pretrain_steps}',
                f'warmup_steps={plan.warmup_steps}', f'probe_every={plan.pretrain_steps}')
            # The only job there is: it may have every core.
            job = Job(job.name, (*job.arguments, f'threads={os.cpu_count() or 1}'))
            run_jobs([job], self.logs, lambda done, what: shown.update(
                done * plan.pretrain_steps, plan.pretrain_steps), at_once=1)
            metrics = read_json(self.runs / 'encoder' / 'run.json')['metrics']
            scene = {name: metrics.get(f'probe.r2.scene.{name}') for name in ('x', 'y', 'yaw')}
            shown.done('R² of a linear probe to the cube: ' + ', '.join(
                f'{name} {value:.2f}' for name, value in scene.items() if value is not None))

    def heads(self) -> None:
        """Train the world model and one head a row of the table."""
        plan = self.plan
        overrides = (f'encoder={self.runs / "encoder"}', f'warmup_steps={plan.warmup_steps}')
        with self.stage(4, 'heads and world model', 'trained') as shown:
            jobs = [self.training(
                'behaviour_cloning', f'head_{name}', *overrides, f'features={features}',
                f'steps={plan.head_steps}') for name, features in POLICIES.items()]
            # The longest first, so that no core waits at the end.
            jobs.sort(key=lambda job: job.name != 'head_imagenet')
            jobs.insert(1, self.training(
                'world_model', 'world_model', *overrides, f'steps={plan.world_model_steps}'))
            run_jobs(jobs, self.logs, lambda done, what: shown.update(done, len(jobs), what))
            shown.done()

    def export(self) -> None:
        """Export encoder, world model, decoder and head to one bundle."""
        parts = [self.runs / name for name in ('encoder', 'world_model', 'head_ssl')]
        origin = fingerprint(files=(part / _WEIGHTS for part in parts))
        with self.stage(5, 'export') as shown:
            if self.made_from(origin, self.bundle):
                self.work_begins()
                encoder, world_model, head = map(str, parts)
                run_jobs([Job('export', (
                    'export', encoder, '--out', str(self.bundle), '--data', str(self.data),
                    '--world-model', world_model, '--head', head, '--name', 'sim_ur5e_lift'))],
                    self.logs, lambda done, what: shown.update(done, 1), at_once=1)
            parity = read_json(self.bundle / 'manifest.json')['parity']
            worst = max(item['cpu']['max_abs_error'] for name, item in parity.items()
                        if name != 'decoder.onnx')
            shown.done(f'parity with torch: max error {worst:.1e}')

    def act(self) -> None:
        """Roll our policy out through the real nodes, in real time."""
        plan = self.plan
        self.results.mkdir(parents=True, exist_ok=True)
        result = self.results / 'ssl.json'
        origin = fingerprint([str(ROLLOUT_SEED)], [self.bundle / 'manifest.json', self.contract])
        with self.stage(6, 'act', 'rollouts') as shown:
            self.made_from(origin, result, self.film)
            if not self._rolled_out(result, plan.rollouts):
                self.work_begins()
                domain = choose_domain()
                with Fleet(self.logs, ros_environment(domain, self.logs / 'ros')) as fleet:
                    fleet.start('sim_arm', node_command('sim_arm', {
                        'seed': ROLLOUT_SEED, 'speed': 1.0}))
                    for node in ('inference', 'policy'):
                        fleet.start(node, node_command(node, {
                            'bundle': self.bundle, 'contract': self.contract, 'backend': 'cpu',
                            'autostart': True}))

                    def on_line(line: str) -> None:
                        words = line.split()
                        if words[:2] == ['rolled', 'out']:
                            lifted = words[5] if len(words) > 5 else '0'
                            shown.update(int(words[2]), int(words[3]), f'{lifted} lifted')

                    fleet.conduct('evaluate', node_command('evaluate', {
                        'rollouts': plan.rollouts, 'result': result, 'film': self.film}), on_line)
            rollouts = read_rollouts(result)['rollouts']
            shown.done(f'{sum(item["success"] for item in rollouts)} of {len(rollouts)} lifted')

    def _rolled_out(self, result: Path, wanted: int) -> bool:
        return result.exists() and len(read_rollouts(result)['rollouts']) >= wanted

    def compare(self) -> None:
        """Probe the encoder beside baselines; roll every head out in process, same starts."""
        plan = self.plan
        encoder = self.runs / 'encoder'
        with self.stage(7, 'compare', 'done') as shown:
            jobs = []
            if self.made_from(fingerprint(files=[encoder / _WEIGHTS]), self.probes):
                self.work_begins()
                jobs.append(Job('probe', (
                    'probe', str(encoder), '--data', str(self.data), '--out', str(self.probes))))
            for row, head in IN_PROCESS.items():
                run, result = self.runs / f'head_{head}', self.results / f'{row}.json'
                # The encoder, too: a random one has weights of its own, but the same making.
                self.made_from(fingerprint(
                    [str(ROLLOUT_SEED)], [run / _WEIGHTS, encoder / _WEIGHTS]),
                    result)
                if not self._rolled_out(result, plan.baseline_rollouts):
                    self.work_begins()
                jobs.append(Job(f'rollout_{row}', (
                    'rollout', str(run), '--data', str(self.data), '--out', str(result), '--seed',
                    str(ROLLOUT_SEED), '--rollouts', str(plan.baseline_rollouts))))
            jobs.sort(key=lambda job: job.name != 'rollout_imagenet')  # the longest first
            run_jobs(jobs, self.logs, lambda done, what: shown.update(done, len(jobs), what))
            shown.done()
