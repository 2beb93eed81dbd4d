# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Each loss against an implementation that others wrote: values and gradients, over many seeds.

Beside each stands what goes wrong in re-implementations, put in on purpose: the comparison must
see it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import math

from parity_table import note, relative
import pytest
from ssl_vla_ros.losses.contrastive import nt_xent, paired_nce, queue_nce
from ssl_vla_ros.losses.distillation import (
    across_crops, assignment_entropy, centred_assignments, koleo, sinkhorn_assignments)
from ssl_vla_ros.losses.joint_embedding import normalised_l1, sketched_gaussian
from ssl_vla_ros.losses.masked import (
    masked_patch_mse, masked_token_entropy, normalised_patches, normalised_tubes)
from ssl_vla_ros.losses.temporal import future_nce, sparsity, time_contrast
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
import torch
from torch import Tensor
from torch.nn import functional

# What the references import needs torchvision.
declare_missing_operators()

SEEDS = range(20)
CLOSE = 1e-6
Loss = Callable[..., Tensor]


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def agree(ours: Loss, theirs: Loss, *inputs: Tensor, close: float = CLOSE) -> None:
    """Compare two losses and their gradients for every input."""
    one, two = ours(*inputs), theirs(*inputs)
    apart = abs(float((one - two).detach()))
    assert apart <= close * max(1.0, abs(float(two.detach())))
    slopes = 0.0
    given = [item for item in inputs if item.requires_grad]
    for mine, other in zip(torch.autograd.grad(one, given), torch.autograd.grad(two, given),
                           strict=True):
        assert torch.isfinite(mine).all()
        torch.testing.assert_close(mine, other, rtol=10 * close, atol=close)
        slopes = max(slopes, relative(mine, other))
    note(relative(one, two), slopes)


def keep(theirs: Tensor, *_: Tensor) -> Tensor:
    """Stand for a loss that is computed already."""
    return theirs


def disagree(ours: Loss, theirs: Loss, *inputs: Tensor) -> None:
    """Make sure that the comparison sees a mistake."""
    with pytest.raises(AssertionError):
        agree(ours, theirs, *inputs)


# -- SimCLR -------------------------------------------------------------------------------


@pytest.mark.parametrize('temperature', [0.07, 0.1, 0.5])
def test_nt_xent_is_lightly_s_and_pytorch_metric_learning_s(temperature: float) -> None:
    lightly = pytest.importorskip('lightly.loss')
    metric = pytest.importorskip('pytorch_metric_learning.losses')
    others = [lightly.NTXentLoss(temperature=temperature),
              metric.SelfSupervisedLoss(metric.NTXentLoss(temperature=temperature))]
    for seed in SEEDS:
        rows = 2 + 3 * seed
        views = draw(seed, rows, 16), draw(seed + 100, rows, 16)
        for theirs in others:
            agree(lambda one, two: nt_xent(one, two, temperature), theirs, *views)


def test_the_comparison_of_nt_xent_sees_a_self_pair_and_a_shifted_label() -> None:
    lightly = pytest.importorskip('lightly.loss')
    theirs = lightly.NTXentLoss(temperature=0.1)
    views = draw(1, 33, 16), draw(2, 33, 16)

    def with_itself(one: Tensor, two: Tensor) -> Tensor:
        every = functional.normalize(torch.cat([one, two]), dim=1)
        return functional.cross_entropy(
            every @ every.T / 0.1, torch.arange(66).roll(33))
    disagree(with_itself, theirs, *views)
    # The pair of itself costs e^(1/τ) in the denominator.
    assert float((with_itself(*views) - theirs(*views)).detach()) > 3.0
    disagree(lambda one, two: nt_xent(one, two.roll(1, 0), 0.1), theirs, *views)
    disagree(lambda one, two: nt_xent(one, two, 0.2), theirs, *views)


def test_nt_xent_is_in_full_precision_whatever_comes_in() -> None:
    one = functional.normalize(draw(3, 64, 32, dtype=torch.float32), dim=1).detach()
    exact = nt_xent(one.double(), one.double(), 0.07)
    rounded = nt_xent(one.bfloat16(), one.bfloat16(), 0.07)
    again = nt_xent(one.bfloat16().double(), one.bfloat16().double(), 0.07)
    assert rounded.dtype == torch.float32
    assert float(exact) > 0.0
    torch.testing.assert_close(rounded.double(), again, rtol=1e-5, atol=1e-7)


def test_nt_xent_refuses_what_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match='a batch of one sample has no negatives'):
        nt_xent(draw(0, 1, 4), draw(1, 1, 4), 0.1)
    with pytest.raises(ValueError, match='are no pairs of rows'):
        nt_xent(draw(0, 3, 4), draw(1, 2, 4), 0.1)


# -- MoCo ---------------------------------------------------------------------------------


def test_queue_nce_is_lightly_s_with_a_memory_bank() -> None:
    lightly = pytest.importorskip('lightly.loss')
    for seed in SEEDS:
        queue = functional.normalize(draw(seed + 50, 24, 8).detach(), dim=1)
        key = draw(seed + 9, 6, 8).detach()

        def reference(query: Tensor, key: Tensor = key, queue: Tensor = queue) -> Tensor:
            # Made anew each time: a call puts its keys into the bank.
            loss = lightly.NTXentLoss(temperature=0.1, memory_bank_size=(24, 8))
            loss.memory_bank.bank = queue.clone()
            loss.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
            found: Tensor = loss(query, key)
            return found
        query = draw(seed, 6, 8)
        agree(lambda one, key=key, queue=queue: queue_nce(one, key, queue, 0.1), reference, query)
        disagree(lambda one, key=key, queue=queue: queue_nce(one, key, queue[1:], 0.1),
                 reference, query)
        # A queue of zeros, or of anything not drawn at random, sticks at ln(K + 1).
        stuck = queue_nce(query, torch.zeros_like(key), torch.zeros_like(queue), 0.1)
        assert float(stuck.detach()) == pytest.approx(math.log(25))


def test_no_gradient_flows_into_keys_and_queue() -> None:
    query, key, queue = draw(1, 4, 8), draw(2, 4, 8), draw(3, 16, 8)
    queue_nce(query, key, queue, 0.1).backward()
    assert query.grad is not None and query.grad.abs().sum() > 0
    assert key.grad is None and queue.grad is None
    with pytest.raises(ValueError, match=r'queue is \(0, 8\)'):
        queue_nce(query, key, queue[:0], 0.1)


# -- CLIP ---------------------------------------------------------------------------------


def test_paired_nce_is_open_clip_s() -> None:
    theirs = pytest.importorskip('open_clip.loss').ClipLoss()
    for seed in SEEDS:
        pair = draw(seed, 3 + seed, 12), draw(seed + 7, 3 + seed, 12)
        scale = torch.tensor(1 / 0.07, dtype=torch.float64, requires_grad=True)

        def reference(one: Tensor, two: Tensor, scale: Tensor) -> Tensor:
            loss: Tensor = theirs(functional.normalize(one, dim=1),
                                  functional.normalize(two, dim=1), scale)
            return loss
        agree(paired_nce, reference, *pair, scale)
        disagree(lambda one, two, scale: paired_nce(one, two, 1 / scale), reference, *pair, scale)


def test_repeated_instructions_are_no_negatives() -> None:
    pictures, words = draw(0, 6, 8), draw(1, 3, 8)
    told = torch.tensor([0, 0, 1, 1, 2, 2])
    same = paired_nce(pictures, words[told], 10.0, told)
    # By hand: the mean over the positives of each row, both ways.
    one = functional.normalize(pictures, dim=1)
    two = functional.normalize(words[told], dim=1)
    logits = 10.0 * one @ two.T
    by_hand = 0.0
    for table in (logits, logits.T):
        for row in range(6):
            scores = table[row].detach().log_softmax(0)
            by_hand -= float(torch.stack([
                scores[column] for column in range(6) if told[column] == told[row]]).mean()) / 12
    assert abs(float(same.detach()) - by_hand) < CLOSE
    # As false negatives they pull pictures of one task apart: the best that can be is then ln 2.
    perfect = torch.eye(3, dtype=torch.float64)[told]
    assert float(paired_nce(perfect, perfect, 100.0)) == pytest.approx(math.log(2), abs=1e-6)
    slope = draw(5, 3, 8)
    close = slope[told] + 1e-3 * draw(6, 6, 8)
    gradient, = torch.autograd.grad(paired_nce(close, close, 10.0, told), close)
    wrong, = torch.autograd.grad(paired_nce(close, close, 10.0), close)
    assert gradient.norm() < wrong.norm()


# -- MAE and VideoMAE ---------------------------------------------------------------------


@pytest.mark.parametrize('normalise', [True, False])
def test_masked_patch_mse_is_vit_mae_s(normalise: bool) -> None:
    transformers = pytest.importorskip('transformers')
    config = transformers.ViTMAEConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=16, patch_size=4, decoder_hidden_size=16, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=16, norm_pix_loss=normalise,
        mask_ratio=0.75)
    torch.manual_seed(0)
    model = transformers.ViTMAEForPreTraining(config).double().eval()
    for seed in SEEDS:
        images = draw(seed, 3, 3, 16, 16).detach()
        noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(seed)).double()
        with torch.no_grad():
            found = model(pixel_values=images, noise=noise)
        patches = model.patchify(images)
        target = normalised_patches(patches) if normalise else patches
        hidden = found.mask.bool()
        assert int(hidden.sum(1).unique()) == 12
        drawn = found.logits.detach()
        ours = masked_patch_mse(drawn, target, hidden)
        assert abs(float(ours - found.loss)) < CLOSE
        note(relative(ours, found.loss))
        assert abs(float(masked_patch_mse(drawn, target, ~hidden) - found.loss)) > 100 * CLOSE
        if normalise:
            biased = (patches - patches.mean(-1, keepdim=True)) / (
                patches.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
            assert abs(float(masked_patch_mse(drawn, biased, hidden) - found.loss)) > 1e-4
            # Drawing nothing at all costs (n − 1) / n: nothing that learns is above.
            nothing = masked_patch_mse(torch.zeros_like(target), target, hidden)
            assert float(nothing) == pytest.approx(47 / 48, abs=1e-4)


def test_normalised_tubes_are_video_mae_s() -> None:
    transformers = pytest.importorskip('transformers')
    config = transformers.VideoMAEConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=16, patch_size=8, num_frames=4, tubelet_size=2, decoder_hidden_size=16,
        decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=16)
    torch.manual_seed(0)
    model = transformers.VideoMAEForPreTraining(config).double().eval()
    means = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    spread = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    for seed in SEEDS:
        pixels = draw(seed, 2, 4, 3, 16, 16).detach()
        # One spatial mask, repeated over time: 3 of 4 places in both tubelets.
        place = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
        hidden = (torch.arange(4) != place[0]).repeat(2)[None].expand(2, 8)
        with torch.no_grad():
            found = model(pixel_values=pixels, bool_masked_pos=hidden)
        frames = pixels * spread + means
        tubes = frames.view(2, 2, 2, 3, 2, 8, 2, 8).permute(0, 1, 4, 6, 2, 5, 7, 3)
        tubes = tubes.reshape(2, 8, 128, 3)
        target = normalised_tubes(tubes).flatten(2)
        drawn = torch.zeros_like(target).masked_scatter(
            hidden[..., None].expand_as(target), found.logits)
        ours = masked_patch_mse(drawn, target, hidden)
        assert abs(float(ours - found.loss)) < CLOSE
        note(relative(ours, found.loss))
        like_mae = normalised_patches(tubes.flatten(2))
        assert abs(float(masked_patch_mse(drawn, like_mae, hidden) - found.loss)) > 1e-4


def test_masked_token_entropy_is_a_plain_loop() -> None:
    for seed in SEEDS:
        logits = draw(seed, 2, 5, 7)
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, 7, (2, 5), generator=generator)
        hidden = torch.rand(2, 5, generator=generator) < 0.6
        hidden[0, 0] = True
        chosen = [-logits[row, place].log_softmax(0)[tokens[row, place]]
                  for row in range(2) for place in range(5) if hidden[row, place]]
        theirs = torch.stack(chosen).mean()
        agree(partial(masked_token_entropy, tokens=tokens, mask=hidden),
              partial(keep, theirs), logits)
    with pytest.raises(ValueError, match='no patch is masked'):
        masked_token_entropy(logits, tokens, torch.zeros(2, 5, dtype=torch.bool))


# -- DINO ---------------------------------------------------------------------------------


def test_koleo_is_lightly_s() -> None:
    theirs = pytest.importorskip('lightly.loss').KoLeoLoss()
    for seed in SEEDS:
        agree(koleo, theirs, draw(seed, 4 + seed, 16), close=1e-5)
        disagree(lambda rows: koleo(rows ** 3), theirs, draw(seed, 4 + seed, 16))
    equal = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    gradient, = torch.autograd.grad(koleo(equal), equal)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize('crops', [2, 4])
def test_dino_across_crops_is_lightly_s(crops: int) -> None:
    theirs = pytest.importorskip('lightly.loss').DINOLoss(
        output_dim=16, teacher_temp=0.05, student_temp=0.1).double()
    centre = draw(9, 16).detach()
    for seed in SEEDS:
        teacher = [draw(seed + part, 5, 16).detach() for part in (30, 31)]
        student = [draw(seed + part, 5, 16) for part in range(crops)]

        def reference(*seen: Tensor) -> Tensor:
            theirs.center = centre[None, None].clone()
            found: Tensor = theirs(teacher, list(seen), teacher_temp=0.05)  # noqa: B023
            return found

        def ours(*seen: Tensor, shift: Tensor = centre) -> Tensor:
            wanted = tuple(centred_assignments(rows, shift, 0.05)
                           for rows in teacher)  # noqa: B023
            return across_crops(seen, wanted, 0.1)
        agree(ours, reference, *student)
        disagree(lambda *seen: ours(*seen, shift=0.0 * centre),
                 reference, *student)


def test_sinkhorn_is_swav_s_and_has_room_where_theirs_has_none() -> None:
    def plain(logits: Tensor, temperature: float, iterations: int) -> Tensor:
        plan = (logits / temperature).exp().T
        plan = plan / plan.sum()
        clusters, rows = plan.shape
        for _ in range(iterations):
            plan = plan / plan.sum(1, keepdim=True) / clusters
            plan = plan / plan.sum(0, keepdim=True) / rows
        return (plan * rows).T
    for seed in SEEDS:
        logits = draw(seed, 12, 6).detach()
        found = sinkhorn_assignments(logits, 0.5)
        torch.testing.assert_close(found, plain(logits, 0.5, 3), rtol=1e-6, atol=1e-9)
        assert not torch.allclose(found, plain(logits, 0.5, 1), atol=1e-4)
        torch.testing.assert_close(found.sum(1), torch.ones(12, dtype=torch.float64))
    assert not torch.isfinite(plain(10 * logits.float() + 40, 0.04, 3)).all()
    assert torch.isfinite(sinkhorn_assignments(10 * logits.float() + 40, 0.04)).all()


def test_assignment_entropy_is_the_written_out_sum_and_ln_k_when_collapsed() -> None:
    student, teacher = draw(1, 5, 9), draw(2, 5, 9)
    target = centred_assignments(teacher, teacher.mean(0), 0.04)
    agree(lambda rows: assignment_entropy(rows, target, 0.1),
          lambda rows: sum((-(target[i] * (rows[i] / 0.1).log_softmax(0)).sum()
                            for i in range(5)), torch.zeros((), dtype=torch.float64)) / 5,
          student)
    flat = torch.zeros(5, 9)
    even = centred_assignments(flat, flat[0], 0.04)
    assert float(assignment_entropy(flat, even, 0.1)) == pytest.approx(math.log(9), abs=1e-6)
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert float(assignment_entropy(student, target, 0.1, weight)) == pytest.approx(
        float(assignment_entropy(student[:1], target[:1], 0.1)), abs=1e-9)
    with pytest.raises(ValueError, match='temperature is 0.0, must be above 0'):
        centred_assignments(flat, flat[0], 0.0)


# -- time ---------------------------------------------------------------------------------


def test_future_nce_is_ln_n_for_shuffled_time_and_small_for_the_truth() -> None:
    truth = draw(1, 4, 16, 64).detach()
    assert float(future_nce(truth, truth, 0.05)) < 0.01
    mixed = truth.flatten(0, 1)[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    assert float(future_nce(mixed.view_as(truth), truth, 1.0)) > math.log(64) - 0.1
    # A background that tells sequences apart is not enough: the moments of one remain.
    backgrounds = truth[:, :1].expand_as(truth)
    assert float(future_nce(backgrounds, backgrounds, 0.05)) == pytest.approx(
        math.log(16), abs=0.05)


def test_time_contrast_is_the_paper_s_formula_near_and_has_a_slope_far_away() -> None:
    def paper(one: Tensor, two: Tensor, three: Tensor) -> Tensor:
        def near(a: Tensor, b: Tensor) -> Tensor:
            return (-torch.linalg.vector_norm(a - b, dim=1)).exp()
        other = one.roll(1, 0)
        forward = -(1e-8 + near(one, two) / (
            1e-8 + near(one, two) + near(one, three) + near(one, other))).log()
        backward = -(1e-8 + near(three, two) / (
            1e-8 + near(three, two) + near(three, one) + near(three, other))).log()
        return (forward + backward).mean() / 2
    for seed in SEEDS:
        frames = [0.3 * draw(seed + part, 5, 8).detach() for part in (0, 50, 90)]
        for item in frames:
            item.requires_grad_()
        agree(time_contrast, paper, *frames, close=1e-5)
        disagree(lambda one, two, three: time_contrast(one, three, two), paper, *frames)
    far = [60.0 * functional.normalize(draw(part, 2, 8), dim=1).detach().requires_grad_()
           for part in (1, 2, 3)]
    wrong = 1e-8 + (-torch.linalg.vector_norm(far[0] - far[1], dim=1)).exp()
    assert float(wrong.max()) < 1.1e-8, 'the paper code has nothing left to learn from here'
    slopes = torch.autograd.grad(time_contrast(*far), far)
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert sum(float(slope.abs().sum()) for slope in slopes) > 0.1
    equal = torch.zeros(2, 4, requires_grad=True)
    slope, = torch.autograd.grad(time_contrast(equal, equal, equal), equal)
    assert torch.isfinite(slope).all()
    with pytest.raises(ValueError, match='needs two videos'):
        time_contrast(*(item[:1] for item in far))


def test_sparsity_is_the_sum_of_the_two_norms() -> None:
    rows = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    assert float(sparsity(rows, 0.5, 2.0)) == pytest.approx((0.5 * 7 + 2 * 5) / 2, abs=1e-6)


# -- JEPA ---------------------------------------------------------------------------------


def test_normalised_l1_normalises_both_sides_and_detaches_the_target() -> None:
    given, wanted = draw(1, 3, 4, 8), draw(2, 3, 4, 8)

    def plain(rows: Tensor) -> Tensor:
        def even(item: Tensor) -> Tensor:
            return (item - item.mean(-1, keepdim=True)) / (
                item.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return (even(rows) - even(wanted.detach())).abs().mean()
    agree(lambda rows: normalised_l1(rows, wanted), plain, given)
    disagree(lambda rows: (rows - wanted.detach()).abs().mean(), plain, given)
    normalised_l1(given, wanted).backward()
    assert wanted.grad is None


def test_sketched_gaussian_is_lightly_s(monkeypatch: pytest.MonkeyPatch) -> None:
    sigreg = pytest.importorskip('lightly.loss').SIGReg(num_vectors=5).double()
    # Their grid is rounded to float32.
    sigreg.t = torch.linspace(0.0, 3.0, 17, dtype=torch.float64)
    sigreg.phi = (-sigreg.t.square() / 2).exp()
    ends = torch.full((17,), 2 * 3.0 / 16, dtype=torch.float64)
    ends[[0, -1]] = 3.0 / 16
    sigreg.weights = ends * sigreg.phi
    for seed in SEEDS:
        directions = draw(seed + 1, 6, 5).detach()
        monkeypatch.setattr(sigreg, '_generate_unit_vectors', lambda *_: (
            directions / directions.norm(dim=0)))  # noqa: B023
        agree(lambda rows: sketched_gaussian(rows, directions),  # noqa: B023
              sigreg, draw(seed, 40, 6))
        # Seventeen points on both sides of zero are half of theirs.
        disagree(lambda rows: sketched_gaussian(rows, directions, points=17),  # noqa: B023
                 sigreg, (0.1 * draw(seed, 40, 6).detach()).requires_grad_())


def test_sketched_gaussian_is_the_integral_and_knows_a_collapse() -> None:
    features, directions = draw(1, 40, 6), draw(2, 6, 5).detach()

    def plain(rows: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        places = [-3.0 + 6.0 * step / 32 for step in range(33)]
        for column in range(5):
            along = directions[:, column] / directions[:, column].norm()
            values = []
            for place in places:
                real = (place * (rows @ along)).cos().mean() - math.exp(-place ** 2 / 2)
                imaginary = (place * (rows @ along)).sin().mean()
                values.append((real ** 2 + imaginary ** 2) * math.exp(-place ** 2 / 2))
            total = total + sum((values[step] + values[step + 1]) / 2 * (6.0 / 32)
                                for step in range(32))
        return 40 * total / 5
    agree(lambda rows: sketched_gaussian(rows, directions), plain, features)
    normal = draw(3, 4000, 6).detach()
    healthy = float(sketched_gaussian(normal, directions))
    for collapsed in (torch.zeros_like(normal), normal[:, :1].expand_as(normal), 0.1 * normal):
        assert float(sketched_gaussian(collapsed, directions)) > 20 * healthy
    with pytest.raises(ValueError, match='points is 4, must be odd'):
        sketched_gaussian(normal, directions, points=4)
