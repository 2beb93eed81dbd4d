# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla demo`: every stage, each of which goes on with what an earlier run has left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import time
from typing import Any

from ssl_vla_ros.demo.guard import alone, check_disk, read_json
from ssl_vla_ros.demo.jobs import Job, run_jobs
from ssl_vla_ros.demo.places import share
from ssl_vla_ros.demo.plan import FULL, Plan, POLICIES, QUICK, RECORD_SEED, ROLLOUT_SEED
from ssl_vla_ros.demo.processes import choose_domain, Fleet, node_command, ros_environment
from ssl_vla_ros.demo.progress import MemoryWatch, Stage
from ssl_vla_ros.demo.signals import stoppable


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
        self._file = self.work / 'stages.json'
        self.stages: dict[str, Any] = {}
        if self._file.exists():
            self.stages = read_json(self._file)
        self.memory = MemoryWatch(float(self.stages.get('peak_rss_mb', 0.0)))

    def note(self, stage: str, seconds: float) -> None:
        """Add the time a stage took, over all runs of it."""
        times = self.stages.setdefault('seconds', {})
        times[stage] = times.get(stage, 0.0) + seconds
        self.save()

    def save(self) -> None:
        """Write what is known of the stages."""
        self.stages['peak_rss_mb'] = self.memory.peak_mb
        part = self._file.with_suffix('.part')
        part.write_text(json.dumps(self.stages, indent=1), encoding='utf-8')
        part.replace(self._file)

    @contextmanager
    def stage(self, number: int, name: str, unit: str = '') -> Iterator[Stage]:
        """Time a stage, also one that is broken off."""
        shown = Stage(f'{number}/7 {name}', unit)
        try:
            yield shown
        finally:
            self.note(name, shown.seconds)

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
        with self.stage(2, 'build', 'episodes') as shown:
            if not (self.data / 'meta' / 'info.json').exists():
                report = build_dataset(self.session, self.data, load_contract(self.contract),
                                       progress=shown.callback())
                (self.logs / 'build.txt').write_text(report.text() + '\n', encoding='utf-8')
            dataset = Dataset.open(self.data)
            shown.done(f'{dataset.num_rows} aligned rows in {dataset.num_episodes} episodes')

    def train_arguments(self, config: str, run: str, *overrides: str) -> tuple[str, ...]:
        """Command line of one training."""
        return ('train', '--config', str(share(f'config/train/{config}.yaml')),
                '--data', str(self.data), '--out', str(self.runs / run), *overrides)

    def pretrain(self) -> None:
        """Pretrain the encoder without labels."""
        plan = self.plan
        with self.stage(3, 'pretrain', 'steps') as shown:
            job = Job('encoder', self.train_arguments(
                'keypoints', 'encoder', f'steps={plan.pretrain_steps}',
                f'warmup_steps={plan.warmup_steps}', f'probe_every={plan.pretrain_steps}',
                f'threads={os.cpu_count() or 1}'))
            run_jobs([job], self.logs, lambda done, what: shown.update(
                done * plan.pretrain_steps, plan.pretrain_steps), at_once=1)
            metrics = read_json(self.runs / 'encoder' / 'run.json')['metrics']
            scene = {name: metrics.get(f'probe.r2.scene.{name}') for name in ('x', 'y', 'yaw')}
            shown.done('R² of a linear probe to the cube: ' + ', '.join(
                f'{name} {value:.2f}' for name, value in scene.items() if value is not None))

    def heads(self) -> None:
        """Train the world model and one head a row of the table."""
        plan = self.plan
        encoder = f'encoder={self.runs / "encoder"}'
        warmup = f'warmup_steps={plan.warmup_steps}'
        jobs = [Job(f'head_{name}', self.train_arguments(
            'behaviour_cloning', f'head_{name}', encoder, warmup, f'features={features}',
            f'steps={plan.head_steps}')) for name, features in POLICIES.items()]
        # The longest first, so that no core waits at the end.
        jobs.sort(key=lambda job: job.name != 'head_imagenet')
        jobs.insert(1, Job('world_model', self.train_arguments(
            'world_model', 'world_model', encoder, warmup, f'steps={plan.world_model_steps}')))
        with self.stage(4, 'heads and world model', 'trained') as shown:
            run_jobs(jobs, self.logs, lambda done, what: shown.update(done, len(jobs), what))
            shown.done()

    def export(self) -> None:
        """Export encoder, world model, decoder and head to one bundle."""
        with self.stage(5, 'export') as shown:
            if not (self.bundle / 'manifest.json').exists():
                run_jobs([Job('export', (
                    'export', str(self.runs / 'encoder'), '--out', str(self.bundle), '--data',
                    str(self.data), '--world-model', str(self.runs / 'world_model'), '--head',
                    str(self.runs / 'head_ssl'), '--name', 'sim_ur5e_lift'))], self.logs,
                    lambda done, what: shown.update(done, 1), at_once=1)
            parity = read_json(self.bundle / 'manifest.json')['parity']
            worst = max(item['max_abs_error'] for name, item in parity.items()
                        if name != 'decoder.onnx')
            shown.done(f'parity with torch: max error {worst:.1e}')

    def act(self) -> None:
        """Roll our policy out through the real nodes, in real time."""
        plan = self.plan
        self.results.mkdir(parents=True, exist_ok=True)
        result = self.results / 'ssl.json'
        with self.stage(6, 'act', 'rollouts') as shown:
            if not self._rolled_out(result, plan.rollouts):
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
                        'rollouts': plan.rollouts, 'result': result,
                        'film': self.results / 'film.npy'}), on_line)
            shown.done(_lifts(result))

    def _rolled_out(self, result: Path, wanted: int) -> bool:
        if not result.exists():
            return False
        return len(read_json(result)['rollouts']) >= wanted

    def compare(self) -> None:
        """Roll the other heads out in process, from the same starts."""
        plan = self.plan
        others = [name for name in POLICIES if name != 'ssl']
        jobs = [Job(f'rollout_{name}', (
            'rollout', str(self.runs / f'head_{name}'), '--data', str(self.data), '--out',
            str(self.results / f'{name}.json'), '--seed', str(ROLLOUT_SEED), '--rollouts',
            str(plan.baseline_rollouts))) for name in ('imagenet', *others) if name in others]
        jobs = list({job.name: job for job in jobs}.values())
        with self.stage(7, 'compare', 'policies') as shown:
            run_jobs(jobs, self.logs, lambda done, what: shown.update(done, len(jobs), what))
            shown.done()


def _lifts(result: Path) -> str:
    rollouts = read_json(result)['rollouts']
    return f'{sum(item["success"] for item in rollouts)} of {len(rollouts)} lifted'


def run_demo(out: Path, quick: bool) -> int:
    """
    Run every stage that is left, then write and show the report.

    Returns
    -------
    int
        Exit status: 0, or 130 if the user stopped it.

    """
    from ssl_vla_ros.demo.reporting import write_reports
    plan = QUICK if quick else FULL
    out = out.resolve()
    work = out / plan.name
    with stoppable(), alone(work):
        check_disk(out)
        demo = Demo(out, plan)
        print(f'ssl_vla demo ({plan.name}, about {plan.expected_minutes:.0f} minutes on two '
              f'cores) in {work}\nCtrl-C stops it; the same command continues.', flush=True)
        began = time.monotonic()
        try:
            for stage in (demo.record, demo.build, demo.pretrain, demo.heads, demo.export,
                          demo.act, demo.compare):
                stage()
        except KeyboardInterrupt:
            print('\nstopped; everything finished so far is kept. Type the same command to go on.')
            return 130
        finally:
            demo.memory.close()
            demo.stages['wall_s'] = demo.stages.get('wall_s', 0.0) + time.monotonic() - began
            demo.save()
        write_reports(demo)
    return 0
