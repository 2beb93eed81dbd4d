# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla demo`: from nothing to a policy on the simulated arm and a report of it."""

from __future__ import annotations

from pathlib import Path

from ssl_vla_ros.demo.guard import alone, check_disk, check_simulator
from ssl_vla_ros.demo.plan import FULL, QUICK
from ssl_vla_ros.demo.signals import stoppable
from ssl_vla_ros.demo.stages import Demo


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
    # The small one, too: side by side they would measure each other, and share the report.
    with stoppable(), alone(out):
        check_disk(out)
        work.mkdir(exist_ok=True)
        check_simulator()
        demo = Demo(out, plan)
        print(f'ssl_vla demo ({plan.name}, about {plan.expected_minutes:.0f} minutes on two '
              f'cores) in {work}\nCtrl-C stops it; the same command continues.', flush=True)
        try:
            for stage in (demo.record, demo.build, demo.pretrain, demo.heads, demo.export,
                          demo.act, demo.compare):
                stage()
            table = write_reports(demo)
        except KeyboardInterrupt:
            print('\nstopped; everything finished so far is kept. Type the same command to go on.')
            return 130
        finally:
            demo.close()
        print(f'\n{table}')
    return 0
