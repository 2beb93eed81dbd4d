# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""From a configuration to an objective: one of the registry, or several over one encoder."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from dataclasses import dataclass
import hashlib
from typing import Any

from ssl_vla_ros.contract import nearest, suggestion
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.timm_trunk import FRESH
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder
from ssl_vla_ros.objectives import Needs, Objective, OBJECTIVES, ObjectiveSpec
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.mix import joint_needs, Mix
from ssl_vla_ros.training.config import parse_dataclass, TrainConfig
import torch
from torch import Tensor


@dataclass(frozen=True)
class Member:
    """One objective of a configuration, with its settings read."""

    name: str
    weight: float
    spec: ObjectiveSpec
    settings: Any
    needs: Needs


def read_members(config: TrainConfig, where: str) -> list[Member]:
    """
    Find the objectives of a configuration in the registry, and read their settings.

    Raises
    ------
    ConfigError
        If there is no such objective, ``model`` does not fit it, or objectives cannot be mixed.

    """
    members = []
    for name, weight in config.weights.items():
        spec = OBJECTIVES.get(name)
        if spec is None:
            raise ConfigError(
                f'{where}: objective is {name!r}, must be one of '
                f'{", ".join(OBJECTIVES)}{nearest(name, OBJECTIVES)}')
        settings: Any = parse_dataclass(spec.settings, *_settings(config, name, where))
        try:
            needs = spec.needs(settings)
        except ValueError as error:
            raise ConfigError(f'{where}: model: {error}') from error
        if config.network.proprioception and spec.state:
            needs = dataclasses.replace(needs, state=True)
        _check_mirror(settings, needs, f'{where}: model.views.flip_share')
        members.append(Member(name, weight, spec, settings, needs))
    _check_together(config, members, where)
    return members


def _check_mirror(settings: Any, needs: Needs, where: str) -> None:
    """Refuse mirrored pictures beside actions, state or words, which nothing mirrors."""
    share = getattr(getattr(settings, 'views', None), 'flip_share', 0.0)
    beside = [what for what, wanted in (
        ('actions', needs.actions > 0), ('state', needs.state), ('instructions', needs.text))
        if wanted]
    if share > 0.0 and beside:
        raise ConfigError(
            f'{where} is {share:g}: it mirrors the workspace, but not the {" and ".join(beside)} '
            'that this objective sees beside the pictures, so that left would be taught as '
            'right; set it to 0')


def _settings(config: TrainConfig, name: str, where: str) -> tuple[Mapping[str, Any], str]:
    """Part of ``model`` that is for one objective, and where it stands."""
    if isinstance(config.objective, str):
        return dict(config.model), f'{where}: model'
    for key in config.model:
        if key not in config.weights:
            raise ConfigError(
                f'{where}: model: unknown key {key!r}: with several objectives it holds the '
                f'settings of each under its name{suggestion(key, list(config.weights))}')
    found = config.model.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(f'{where}: model.{name} is {found!r}, must be a mapping')
    return found, f'{where}: model.{name}'


def _check_together(config: TrainConfig, members: list[Member], where: str) -> None:
    for member in members:
        alone = member.spec.own_encoder or member.spec.data != 'frames'
        if alone and len(members) > 1:
            raise ConfigError(
                f'{where}: objective: {member.name} trains no shared encoder and cannot be mixed; '
                'train it in a run of its own')
        if alone and config.network != VisionConfig():
            raise ConfigError(
                f'{where}: network sizes the encoder of other objectives; {member.name} '
                + ('has one of its own: its settings are in model' if member.spec.own_encoder
                   else 'works on the features of a trained one: give its run as encoder')
                + '; leave network out')
        if config.batch_size < member.needs.pairs:
            raise ConfigError(
                f'{where}: batch_size is {config.batch_size}, but {member.name} tells samples '
                f'apart and needs at least {member.needs.pairs}')
    if config.network.proprioception and not any(member.spec.state for member in members):
        able = ', '.join(name for name, spec in OBJECTIVES.items() if spec.state)
        raise ConfigError(
            f'{where}: network.proprioception is true, but {config.title} looks at pictures '
            f'alone and would leave that branch untrained; use one of {able}, or set it to false')
    data_needs(members, where)


def data_needs(members: list[Member], where: str) -> Needs:
    """
    Give what a sample must hold for all members.

    Raises
    ------
    ConfigError
        If they contradict each other.

    """
    try:
        return joint_needs({member.name: member.needs for member in members})
    except ValueError as error:
        raise ConfigError(f'{where}: model: {error}') from error


def build_objective(config: TrainConfig, shape: DataShape, where: str, *, fresh: bool = False,
                    encoder_state: Mapping[str, Tensor] | None = None) -> Objective:
    """
    Build the objective of a configuration, weights drawn from its seed.

    Parameters
    ----------
    config, shape
        What to build, for which data.
    where
        Name of the configuration, for error messages.
    fresh
        Ignore ``network.init``: weights are loaded afterwards.
    encoder_state
        Weights of another run's encoder to start from, before any teacher is copied from it.

    Raises
    ------
    ConfigError
        If sizes do not fit.

    """
    members = read_members(config, where)
    torch.manual_seed(config.seed)
    known = fresh or encoder_state is not None
    network = dataclasses.replace(config.network, init=FRESH) if known else config.network
    try:
        if members[0].spec.data != 'frames' or members[0].spec.own_encoder:
            alone: Objective = members[0].spec.build(shape, members[0].settings)
            return alone
        encoder = VisionEncoder(
            shape.cameras, shape.height, shape.width, shape.state_size, network)
        if encoder_state is not None:
            _load(encoder, encoder_state, config.network.init, where)
        built = {}
        for member in members:
            # By name: a member begins the same whatever stands beside it.
            torch.manual_seed(_seed_of(config.seed, member.name))
            built[member.name] = member.spec.build(shape, member.settings, encoder)
    except ValueError as error:
        raise ConfigError(f'{where}: model: {error}') from error
    if isinstance(config.objective, str):
        only: Objective = built[members[0].name]
        return only
    return Mix(built, config.weights, {member.name: member.needs for member in members}, encoder)


def _seed_of(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f'{seed} {name}'.encode()).digest()[:7])


def _load(encoder: VisionEncoder, state: Mapping[str, Tensor], source: str, where: str) -> None:
    try:
        encoder.load_state_dict(dict(state))
    except RuntimeError as error:
        own = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
        given = {name: tuple(value.shape) for name, value in state.items()}
        first = next(name for name in [*own, *given] if own.get(name) != given.get(name))
        raise ConfigError(
            f'{where}: network.init is {source!r}, whose encoder has another architecture '
            f'({first} is {given.get(first, "missing")} there and {own.get(first, "missing")} '
            'here); use the network settings of that run') from error
