# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The subcommands of ``ssl_vla episodes``: list, recover, check, relabel, trim, delete, merge."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssl_vla_ros.cli_text import AddCommand, positive, progress_bar
from ssl_vla_ros.errors import UserError

#: What tells a dataset from a session.
_DATASET = 'meta/info.json'
_OUTCOMES = {True: 'success', False: 'failure', None: '-'}


def add_episode_commands(command: AddCommand, groups: Any) -> None:
    """Add the group ``episodes`` to the command line."""
    episodes = groups.add_parser('episodes', help='recorded episodes').add_subparsers(
        dest='action', required=True, metavar='ACTION')
    part = command(episodes, 'list', _list, 'what a session holds')
    part.add_argument('session', type=Path)
    part = command(episodes, 'recover', _recover, 'finish what a killed recorder or edit left')
    part.add_argument('session', type=Path)
    _add_yes(part)
    part = command(episodes, 'check', check, 'a verdict an episode, with reasons; status 1 if '
                   'any is refused')
    part.add_argument('place', type=Path, metavar='DIR',
                      help='a session, one episode, or a LeRobot dataset')
    part.add_argument('--thresholds', type=Path, metavar='FILE',
                      help='YAML with other bounds (docs/quality.md)')
    part.add_argument('--json', type=Path, metavar='FILE', help='write the verdicts there, too')
    part.add_argument('--workers', type=positive,
                      help='processes at the same time; default: one a processor core')
    _add_edits(command, episodes)


def _add_edits(command: AddCommand, episodes: Any) -> None:
    part = _edit(command, episodes, 'relabel', _relabel,
                 'say anew what was done, how it went, or who did it')
    part.add_argument('--task', help='what was done, in words')
    part.add_argument('--success', choices=['yes', 'no', 'unknown'], help='whether it was done')
    part.add_argument('--operator', help='who teleoperated')
    part = _edit(command, episodes, 'trim', _trim, 'cut time off the ends of episodes')
    part.add_argument('--start', type=float, metavar='S',
                      help='cut what came before, in seconds after the first message')
    part.add_argument('--end', type=float, metavar='S',
                      help='cut what came after, in seconds after the first message')
    part.add_argument('--purge', action='store_true', help='do not keep the episode as it was')
    part = _edit(command, episodes, 'delete', _delete, 'move episodes to discarded/')
    part.add_argument('--purge', action='store_true', help='delete their messages for good')
    part = command(episodes, 'merge', _merge, 'copy the episodes of several sessions into one')
    part.add_argument('out', type=Path, help='a session; made if it is not there')
    part.add_argument('sessions', type=Path, nargs='+')
    _add_yes(part)


def _edit(command: AddCommand, episodes: Any, name: str,
          run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    part = command(episodes, name, run, text)
    part.add_argument('session', type=Path)
    part.add_argument('episodes', help='numbers such as 3,5-9, or all')
    _add_yes(part)
    return part


def _add_yes(part: argparse.ArgumentParser) -> None:
    part.add_argument('--yes', action='store_true',
                      help='do it; without, only say what would happen')


def _list(options: argparse.Namespace) -> int:
    from ssl_vla_ros.episodes.reader import Episode, list_episodes
    from ssl_vla_ros.episodes.unfinished import leftovers
    paths = list_episodes(options.session)
    found: list[tuple[str, dict[str, Any] | None, str]] = []
    for path in paths:
        try:
            found.append((path.name, Episode.open(path).info, ''))
        except UserError as error:
            found.append((path.name, None, str(error)))
    width = max((len(info.get('operator', '')) for _, info, _ in found if info), default=0)
    for name, info, problem in found:
        print(f'{name}  {_described(info, width)}' if info else f'{name}  unreadable: {problem}')
    print(f'{len(paths)} episodes in {options.session}')
    left = leftovers(options.session, count=False)
    for name in left.held:
        print(f'{name}  is being written')
    if left.changes:
        print(f'{len(left.changes)} unfinished; see: ssl_vla episodes recover {options.session}')
    return 1 if any(problem for _, _, problem in found) else 0


def _described(info: dict[str, Any], width: int) -> str:
    messages = sum(account['written'] for account in info['counts'].values())
    operator = f'{info.get("operator", ""):<{width}}  ' if width else ''
    return (f'{info["status"]:<10} {_OUTCOMES[info["success"]]:<8} {info["duration_s"]:6.1f} s '
            f'{messages:7d} messages  {operator}{info["task"]}')


def _recover(options: argparse.Namespace) -> int:
    from ssl_vla_ros.episodes.recover import recover_session
    from ssl_vla_ros.episodes.session import existing
    from ssl_vla_ros.episodes.transaction import settle
    from ssl_vla_ros.episodes.unfinished import leftovers
    left = leftovers(options.session)
    for name in left.held:
        print(f'{name}: is being written; left alone')
    if not left.changes:
        print(f'{options.session}: nothing to recover')
    elif not options.yes:
        print('\n'.join(left.changes))
        print(f'{options.session}: nothing was changed; the same command with --yes does it')
    else:
        settled = settle(existing(options.session))
        if settled:
            print(settled)
        for item in recover_session(options.session):
            print(f'{item.path}: {item.status}, {item.messages} messages; {item.reason}')
        print(f'\nNext: ssl_vla episodes list {options.session}')
    return 0


def check(options: argparse.Namespace) -> int:
    """Judge a session, an episode or a dataset; 1 if anything is refused."""
    from ssl_vla_ros.episodes.bag import write_json
    from ssl_vla_ros.episodes.check import load_thresholds
    from ssl_vla_ros.quality.summary import summary_text, to_json, verdicts_text
    thresholds = load_thresholds(options.thresholds)
    is_dataset = options.command == 'dataset' or (options.place / _DATASET).is_file()
    verdicts, labels = (_judge_dataset if is_dataset else _judge_session)(options, thresholds)
    print(verdicts_text(verdicts))
    print(f'\n{summary_text(verdicts, labels)}')
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, to_json(str(options.place), verdicts, thresholds))
    refused = [label for verdict, label in zip(verdicts, labels, strict=True) if verdict.refused]
    print(_next(options.place, refused, len(verdicts), is_dataset))
    return 1 if refused else 0


def _judge_session(options: argparse.Namespace, thresholds: Any) -> tuple[list[Any], list[str]]:
    from ssl_vla_ros.dataset.check import with_what_the_build_says
    from ssl_vla_ros.episodes.check import check_session, episodes_to_check
    from ssl_vla_ros.parallel import default_workers, each
    paths = episodes_to_check(options.place)
    workers = options.workers or default_workers()
    verdicts = check_session(paths, thresholds, workers=workers, progress=progress_bar)
    judged = list(zip(paths, verdicts, strict=True))
    for number, verdict in each(with_what_the_build_says, judged, workers):
        verdicts[number] = verdict
    return verdicts, [path.name.removeprefix('episode_').lstrip('0') or '0' for path in paths]


def _judge_dataset(options: argparse.Namespace, thresholds: Any) -> tuple[list[Any], list[str]]:
    from ssl_vla_ros.dataset.check import check_dataset
    from ssl_vla_ros.parallel import default_workers
    found = check_dataset(
        options.place, thresholds, workers=options.workers or default_workers(),
        options=getattr(options, 'import_options', None),
        told=lambda done, total, verdict: progress_bar(done, total, 'check'))
    return list(found.verdicts), [
        verdict.name.removeprefix('episode ') for verdict in found.verdicts]


def _next(place: Path, refused: Sequence[str], total: int, is_dataset: bool) -> str:
    """Say which command comes next."""
    if is_dataset:
        return '' if refused else (
            f'\nNext: ssl_vla train --config config/train/keypoints.yaml --data {place} '
            '--out RUN')
    single = (place / 'episode.json').is_file()
    session = place.parent if single else place
    if not refused:
        return '' if single else f'\nNext: ssl_vla dataset build {session} DATASET'
    if len(refused) == total and not single:
        return '\nNext: mend what the reasons name, and record again'
    return f'\nNext: ssl_vla episodes delete {session} {",".join(refused)}'


def _relabel(options: argparse.Namespace) -> int:
    from ssl_vla_ros.episodes.edit import relabel
    return _show(options, relabel(
        options.session, options.episodes, task=options.task, success=options.success,
        operator=options.operator))


def _trim(options: argparse.Namespace) -> int:
    from ssl_vla_ros.episodes.edit_trim import trim
    return _show(options, trim(
        options.session, options.episodes, start_s=options.start, end_s=options.end,
        purge=options.purge))


def _delete(options: argparse.Namespace) -> int:
    from ssl_vla_ros.episodes.edit import delete
    return _show(options, delete(options.session, options.episodes, purge=options.purge))


def _merge(options: argparse.Namespace) -> int:
    from ssl_vla_ros.episodes.edit_merge import merge
    return _show(options, merge(options.sessions, options.out))


def _show(options: argparse.Namespace, edit: Any) -> int:
    """Say what would happen, and do it if that is what the user wants."""
    print('\n'.join(edit.lines))
    if not edit.lines:
        print(f'{edit.title}: nothing would change')
    elif not options.yes:
        print(f'{edit.title}: nothing was changed; the same command with --yes does it')
    else:
        edit.apply(progress_bar)
        print(f'{edit.title}: done\n\nNext: ssl_vla episodes list {edit.session}')
    return 0
