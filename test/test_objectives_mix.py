# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Several objectives over one encoder: weights, one set of parameters, and no member disturbed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from ssl_vla_ros.augment.views import ViewConfig
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import clip, mix, simclr
from ssl_vla_ros.objectives.base import Batch, DataShape, Needs, Objective
from ssl_vla_ros.objectives.clip import Clip, clip_needs, ClipConfig
from ssl_vla_ros.objectives.mae import MaskedAutoencoder, MaskedAutoencoderConfig
from ssl_vla_ros.objectives.mix import cut, joint_needs, Mix
from ssl_vla_ros.objectives.moco import MoCo, MoCoConfig
from ssl_vla_ros.objectives.simclr import SimCLR, SimCLRConfig
from ssl_vla_ros.objectives.temporal import Temporal, temporal_needs, TemporalConfig
from ssl_vla_ros.training.building import build_objective
from ssl_vla_ros.training.config import load_train_config, TrainConfig
from ssl_vla_ros.training.runs import save_model
from tiny_training import CONFIGS, SIZE
import torch
from torch import distributed, multiprocessing, nn, Tensor

SHAPE = DataShape(1, SIZE, SIZE, 2, 2, tasks=('lift it', 'push it', 'turn it'))
FRAMES, STEPS = 4, 3
TIME = TemporalConfig(frames=FRAMES, stride=2, horizon=1, width=8)
TRIPLE = ClipConfig(hidden=8, projection=8, actions=STEPS,
                    text_settings={'width': 8, 'depth': 1, 'heads': 2})
NEEDS = {'simclr': Needs(pairs=2), 'mae': Needs(), 'moco': Needs(),
         'temporal': temporal_needs(TIME), 'clip': clip_needs(TRIPLE)}
WEIGHTS = {'simclr': 0.5, 'mae': 2.0, 'moco': 1.0, 'temporal': 0.25, 'clip': 3.0}


def encoder_of(seed: int = 0) -> VisionEncoder:
    torch.manual_seed(seed)
    return VisionEncoder(
        1, SIZE, SIZE, 2, VisionConfig(vit=VitConfig(patch=8, channels=8, depth=1, heads=2)))


def members_of(encoder: VisionEncoder) -> dict[str, Objective]:
    return {
        'simclr': SimCLR(SHAPE, SimCLRConfig(hidden=8, projection=8), encoder),
        'mae': MaskedAutoencoder(SHAPE, MaskedAutoencoderConfig(
            decoder_channels=8, decoder_depth=1, decoder_heads=2), encoder),
        'moco': MoCo(SHAPE, MoCoConfig(hidden=8, projection=8, queue=8, momentum=0.5), encoder),
        'temporal': Temporal(SHAPE, TIME, encoder),
        'clip': Clip(SHAPE, TRIPLE, encoder)}


def mixed(*names: str, seed: int = 0, members: Mapping[str, Objective] | None = None,
          weights: Mapping[str, float] = WEIGHTS, kind: type[Mix] = Mix) -> Mix:
    encoder = encoder_of(seed)
    found = members_of(encoder) if members is None else members
    shared = next(iter(found.values())).encoder
    assert isinstance(shared, VisionEncoder)
    return kind({name: found[name] for name in names}, {name: weights[name] for name in names},
                {name: NEEDS[name] for name in names}, shared)


def batch_of(frames: int, count: int = 6, still: bool = False) -> dict[str, Tensor]:
    """Make a batch for all members; the frames of a clip are all alike if it is ``still``."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 1 if still else frames, 1, SIZE, SIZE, 3),
                           generator=generator, dtype=torch.uint8)
    images = images.expand(-1, frames, -1, -1, -1, -1)
    return {'images': images if frames > 1 else images[:, 0],
            'actions': torch.randn(count, STEPS, 2, generator=generator),
            'valid': torch.ones(count, STEPS, dtype=torch.bool),
            'instruction': torch.arange(count) % 3}


def generator_of(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- the sum ------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_and_parts_are_named_by_their_member() -> None:
    objective = mixed('simclr', 'mae', 'temporal', 'clip')
    parts = objective(batch_of(FRAMES), generator_of())
    expected = sum(WEIGHTS[name] * float(parts[f'{name}/loss'].detach())
                   for name in ('simclr', 'mae', 'temporal', 'clip'))
    assert float(parts['loss'].detach()) == pytest.approx(expected, rel=1e-6)
    assert {'simclr/simclr_chance', 'mae/loss', 'temporal/temporal_right_1',
            'clip/image_text'} <= set(parts)
    for name, value in parts.items():
        assert value.ndim == 0, name
        # The watch over collapse looks for the loss that a level of chance is of.
        assert name.removesuffix('_chance') in parts


def test_the_gradients_of_members_add_up_in_the_shared_encoder() -> None:
    members = members_of(encoder_of())
    names = ('simclr', 'mae', 'clip')
    together = mixed(*names, members=members)
    together(batch_of(1), generator_of())['loss'].backward()
    parameters = dict(together.encoder.named_parameters())
    found = {name: value.grad.clone() for name, value in parameters.items()
             if value.grad is not None}
    expected = {name: torch.zeros_like(value) for name, value in found.items()}
    for name in names:
        together.zero_grad()
        mixed(name, members=members, weights={name: 1.0})(
            batch_of(1), generator_of())['loss'].backward()
        for key, value in parameters.items():
            if value.grad is not None:
                expected[key] += WEIGHTS[name] * value.grad
    assert len(found) > 10
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6)


# -- one encoder --------------------------------------------------------------------------


def counted_once(objective: Mix) -> None:
    """See that the encoder's tensors stand once among parameters and in the state."""
    shared = len(list(objective.encoder.parameters()))
    names = [name for name, _ in objective.named_parameters() if 'teacher' not in name]
    assert sum(name.startswith('encoder.') for name in names) == shared
    assert not any('.encoder.' in name for name in names)
    kept = [name for name in objective.state_dict() if 'teacher' not in name]
    assert not any('.encoder.' in name for name in kept)
    assert set(names) <= set(kept)


def test_the_encoder_is_counted_once(tmp_path: Path) -> None:
    objective = mixed('simclr', 'moco', 'temporal')
    counted_once(objective)
    total = sum(value.numel() for value in objective.parameters())
    alone = sum(value.numel() for value in objective.encoder.parameters())
    apart = sum(sum(value.numel() for value in member.parameters()) - alone
                for member in objective.members.values())
    assert total == alone + apart
    save_model(objective, tmp_path / 'model.safetensors')
    keys = load_file(tmp_path / 'model.safetensors').keys()
    assert sum(key.endswith('project.weight') for key in keys) == 2, "the encoder's, the teacher's"
    # Negative control: without the hook each member brings a copy.
    objective._state_dict_hooks.clear()
    with pytest.raises(AssertionError):
        counted_once(objective)


@pytest.mark.parametrize('wrapped', [False, True])
def test_a_state_loads_back_and_the_encoder_stays_shared(wrapped: bool, tmp_path: Path) -> None:
    one, two = mixed('simclr', 'moco', seed=0), mixed('simclr', 'moco', seed=1)
    batch = batch_of(1)
    wanted = one.eval()(batch, generator_of())['loss']
    assert two.eval()(batch, generator_of())['loss'] != wanted
    # As Lightning holds it: within another module.
    outer = [nn.ModuleDict({'objective': each}) if wrapped else each for each in (one, two)]
    state = outer[0].state_dict()
    before = set(state)
    outer[1].load_state_dict(state)
    assert set(state) == before, 'what is loaded is left as it is'
    assert torch.equal(two(batch, generator_of())['loss'], wanted)
    assert all(member.encoder is two.encoder for member in two.members.values())
    broken = {key: value for key, value in state.items() if not key.endswith('project.weight')}
    with pytest.raises(RuntimeError, match='Missing key'):
        outer[1].load_state_dict(broken)


def test_a_member_on_another_encoder_is_refused() -> None:
    ours, theirs = members_of(encoder_of()), members_of(encoder_of())
    with pytest.raises(ValueError, match='mae does not work on the encoder of the mix'):
        mixed('simclr', 'mae', members={'simclr': ours['simclr'], 'mae': theirs['mae']})


# -- members do not disturb each other ----------------------------------------------------


class ByTurn(Mix):
    """The trap: who stands first takes the first numbers."""

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        parts = {'loss': torch.zeros(())}
        for name, member in self._each():
            found = member(cut(batch, self._needs[name], self._joint, generator_of()), generator)
            parts |= {f'{name}/{part}': value for part, value in found.items()}
        return parts


class OneSource(Mix):
    """The trap: the moment that is drawn of a clip moves the numbers that follow."""

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        parts = {'loss': torch.zeros(())}
        for name, member in self._each():
            own = generator_of(len(name))
            found = member(cut(batch, self._needs[name], self._joint, own), own)
            parts |= {f'{name}/{part}': value for part, value in found.items()}
        return parts


def disturbs_nobody(kind: type[Mix], others: tuple[str, ...]) -> None:
    """See that a member's parts are the same alone and beside others."""
    members = members_of(encoder_of())
    # Still clips, so that it does not matter which moment of them is drawn.
    beside = mixed(*others, members=members, kind=kind, weights=dict.fromkeys(others, 7.0))(
        batch_of(FRAMES if 'temporal' in others else 1, still=True), generator_of())
    for name in ('simclr', 'mae', 'clip'):
        alone = mixed(name, members=members, kind=kind)(batch_of(1), generator_of())
        for key, value in alone.items():
            if key != 'loss':
                torch.testing.assert_close(beside[key], value, rtol=1e-5, atol=1e-6)


ORDERS = (('mae', 'simclr', 'clip'), ('clip', 'mae', 'simclr'))
CLIPS = ('temporal', 'clip', 'simclr', 'mae')


@pytest.mark.parametrize('others', [*ORDERS, CLIPS])
def test_a_member_loses_the_same_whatever_stands_beside_it(others: tuple[str, ...]) -> None:
    disturbs_nobody(Mix, others)


def test_the_check_of_what_stands_beside_sees_the_traps() -> None:
    for others in ORDERS:
        with pytest.raises(AssertionError):
            disturbs_nobody(ByTurn, others)
        disturbs_nobody(OneSource, others)
    with pytest.raises(AssertionError):
        disturbs_nobody(OneSource, CLIPS)


def test_another_step_draws_other_numbers_and_the_same_one_the_same() -> None:
    losses = [mixed('simclr', 'mae')(batch_of(1), generator_of(seed))['loss']
              for seed in (3, 3, 4)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_members_draw_numbers_of_their_own() -> None:
    seeds = {mix._seed(drawn, name, use) for drawn in range(50) for name in NEEDS
             for use in ('moment', 'own')}
    assert len(seeds) == 50 * len(NEEDS) * 2
    assert all(0 <= value < 2**63 for value in seeds)


# -- what each member gets ----------------------------------------------------------------


def clips_of(count: int) -> dict[str, Tensor]:
    """Make a batch in which every number tells its sample and its moment."""
    moment = 10 * torch.arange(count)[:, None] + torch.arange(FRAMES)
    return {'images': moment.view(count, FRAMES, 1, 1, 1, 1).expand(-1, -1, 1, 2, 2, 3),
            'state': moment[..., None].float(),
            'actions': (10 * torch.arange(count)[:, None] + torch.arange(STEPS))[..., None],
            'valid': torch.ones(count, STEPS, dtype=torch.bool),
            'instruction': torch.arange(count)}


GIVEN = Needs(frames=FRAMES, stride=2, actions=STEPS, state=True, text=True)


def test_one_frame_is_that_of_a_random_moment_with_its_state() -> None:
    batch = clips_of(200)
    found = cut(batch, Needs(state=True), GIVEN, generator_of())
    assert set(found) == {'images', 'state'}
    assert found['images'].shape == (200, 1, 2, 2, 3)
    place = found['images'][:, 0, 0, 0, 0]
    assert torch.equal(place // 10, torch.arange(200))
    assert torch.equal(found['state'][:, 0].long(), place)
    counts = torch.bincount(place % 10)
    assert len(counts) == FRAMES and int(counts.min()) > 30
    again = cut(batch, Needs(state=True), GIVEN, generator_of())
    assert torch.equal(again['images'], found['images'])
    assert not torch.equal(cut(batch, Needs(), GIVEN, generator_of(4))['images'], found['images'])


def test_one_frame_with_actions_is_the_first_with_what_was_done_from_there() -> None:
    batch = clips_of(7)
    found = cut(batch, Needs(actions=2, text=True), GIVEN, generator_of())
    assert set(found) == {'images', 'actions', 'valid', 'instruction'}
    assert torch.equal(found['images'], batch['images'][:, 0])
    assert torch.equal(found['actions'], batch['actions'][:, :2])
    assert found['valid'].shape == (7, 2)
    # Frame and first action of one row of the dataset: both tell the same number.
    assert torch.equal(found['images'][:, 0, 0, 0, 0], found['actions'][:, 0, 0])


def test_fewer_frames_are_the_first_ones_and_enough_are_left_alone() -> None:
    batch = clips_of(5)
    found = cut(batch, Needs(frames=2, stride=2, state=True), GIVEN, generator_of())
    assert torch.equal(found['images'], batch['images'][:, :2])
    assert torch.equal(found['state'], batch['state'][:, :2])
    whole = cut(batch, GIVEN, GIVEN, generator_of())
    assert all(whole[name] is batch[name] for name in batch)
    single = {'images': batch['images'][:, 0]}
    assert cut(single, Needs(), Needs(), generator_of())['images'] is single['images']


class Listener(Objective):
    """Keeps what it was given; its loss is nothing."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.heard: Batch = {}
        self.seed = 0
        self.done: list[object] = []

    def prepare(self, rows: Batch) -> None:
        self.done.append('prepare')

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        self.heard, self.seed = batch, generator.initial_seed()
        return {'loss': torch.zeros(())}

    def end_step(self) -> None:
        self.done.append('end_step')

    def mend_gradients(self) -> None:
        self.done.append('mend_gradients')

    def teachers(self) -> dict[str, tuple[nn.Module, nn.Module]]:
        return {f'of {id(self)}': (self.encoder, self.encoder)}


def test_a_mix_hands_each_member_its_part_and_every_call() -> None:
    encoder = encoder_of()
    one, two = Listener(encoder), Listener(encoder)
    both = Mix({'one': one, 'two': two}, {'one': 1.0, 'two': 1.0},
               {'one': Needs(), 'two': Needs(frames=FRAMES, stride=2, state=True)}, encoder)
    both(clips_of(3), generator_of())
    assert one.heard['images'].ndim == 5 and set(one.heard) == {'images'}
    assert two.heard['images'].shape[:2] == (3, FRAMES)
    assert one.seed != two.seed, 'members do not share their numbers'
    assert set(two.heard) == {'images', 'state'}
    both.prepare({})
    both.begin_step(0.25)
    both.mend_gradients()
    both.end_step()
    for listener in (one, two):
        assert listener.done == ['prepare', 'mend_gradients', 'end_step']
        assert listener.progress == 0.25
    assert len(both.teachers()) == 2


def test_the_teacher_of_a_member_follows() -> None:
    objective = mixed('simclr', 'moco')
    optimiser = torch.optim.SGD(objective.parameters(), lr=0.1)
    objective(batch_of(1), generator_of())['loss'].backward()
    optimiser.step()
    student, teacher = objective.teachers()['moco']
    assert student is objective.encoder
    before = [value.clone() for value in teacher.parameters()]
    objective.end_step()
    for old, new, aim in zip(before, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.5 * old + 0.5 * aim)


# -- several processes --------------------------------------------------------------------

STILL = ViewConfig(crop_smallest=1.0, jitter_share=0.0, grey_share=0.0, blur_share=0.0)
CONTRASTED = ('simclr', 'moco', 'clip')


def undrawn() -> Mix:
    """Build a mix of what contrasts a batch, which draws no number: processes do not differ."""
    encoder = encoder_of()
    plain = {'hidden': 8, 'projection': 8, 'views': STILL}
    return mixed(*CONTRASTED, members={
        'simclr': SimCLR(SHAPE, SimCLRConfig(memory=10, **plain), encoder),
        'moco': MoCo(SHAPE, MoCoConfig(queue=60, **plain), encoder),
        'clip': Clip(SHAPE, ClipConfig(actions=STEPS, action_noise=0.0, text_settings={
            'width': 8, 'depth': 1, 'heads': 2}, **plain), encoder)})


def two_steps(objective: Mix, batch: Batch, processes: int) -> dict[str, Tensor]:
    """Gradients, parts, bank and queue after a step, and the next loss, as DDP has them."""
    for _ in range(2):
        objective.zero_grad()
        parts = objective(batch, generator_of())
        parts['loss'].backward()
    found = {name: value.grad for name, value in objective.named_parameters()
             if value.grad is not None} | {name: value.detach() for name, value in parts.items()}
    for value in found.values():
        if processes > 1:
            distributed.all_reduce(value)
            value /= processes
    # A queue takes the keys of each process as they come; in which order does not matter.
    for member, name in (('simclr', 'memory'), ('moco', 'queue')):
        rows = objective.members[member].get_buffer(name)
        found[name] = rows.T @ rows
    return found


def work(rank: int, folder: str) -> None:
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    try:
        own = {name: value[6 * rank:6 * rank + 6] for name, value in batch_of(1, 12).items()}
        torch.save(two_steps(undrawn(), own, 2), f'{folder}/together{rank}.pt')
        for module in (simclr, clip):
            module.__dict__['world'] = lambda: (0, 1)
        torch.save(two_steps(undrawn(), own, 2), f'{folder}/apart{rank}.pt')
    finally:
        distributed.destroy_process_group()


def test_two_processes_learn_what_one_learns_with_all_samples(tmp_path: Path) -> None:
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    wanted = two_steps(undrawn(), batch_of(1, 12), 1)

    def compare(kind: str) -> None:
        for rank in range(2):
            found: dict[str, Any] = torch.load(tmp_path / f'{kind}{rank}.pt', weights_only=True)
            assert found.keys() == wanted.keys()
            for name, value in wanted.items():
                torch.testing.assert_close(
                    found[name], value, rtol=1e-3, atol=1e-5,
                    msg=lambda said, name=name: f'{name}: {said}')

    compare('together')
    # Negative control: each process contrasts its own samples alone.
    with pytest.raises(AssertionError):
        compare('apart')


# -- needs --------------------------------------------------------------------------------


def test_joint_needs_are_the_largest_of_all() -> None:
    assert joint_needs(NEEDS) == Needs(
        frames=FRAMES, stride=2, actions=STEPS, state=False, text=True, pairs=2)
    # The stride of a single frame is none.
    assert joint_needs({'one': Needs(stride=5), 'two': Needs(frames=3, stride=2)}).stride == 2
    assert joint_needs({'one': Needs(stride=5)}).stride == 1


def config_of(*words: str) -> TrainConfig:
    return load_train_config(CONFIGS / 'temporal.yaml', [
        'objective={temporal: 1.0, r3m: 0.5}', 'network.vit={channels: 8, depth: 1, heads: 2}',
        f'height={SIZE}', f'width={SIZE}',
        'model={temporal: {stride: 3}, r3m: {stride: 3, hidden: 8}}', *words])


def test_different_strides_are_refused() -> None:
    with pytest.raises(ValueError, match=r'different strides \(one: 2, two: 3\); set model\.NAME'):
        joint_needs({'one': Needs(frames=2, stride=2), 'two': Needs(frames=2, stride=3)})
    with pytest.raises(ConfigError, match=r'here: model: .*\(temporal: 3, r3m: 4\)'):
        build_objective(config_of('model.r3m.stride=4'), SHAPE, 'here')
    built = build_objective(config_of(), SHAPE, 'here')
    assert isinstance(built, Mix)
    assert built.weights == {'temporal': 1.0, 'r3m': 0.5}
    counted_once(built)
