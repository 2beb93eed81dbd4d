# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The visual vocabulary: every word is used, the nearest is the nearest, twice is the same."""

from __future__ import annotations

import pytest
from ssl_vla_ros.networks import codebook
from ssl_vla_ros.networks.codebook import Codebook
import torch
from torch import Tensor


def fitted(samples: Tensor, words: int) -> Codebook:
    book = Codebook(words, samples.shape[1])
    book.fit(samples)
    return book


def drawn(rows: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def plain(rows: int, others: int) -> Tensor:
    """Patches of a table: nearly all are one and the same."""
    return torch.cat([torch.zeros(rows, 12), drawn(others, 12)])


def near(rows: int) -> Tensor:
    """Bright patches that differ from each other by one grey level or two of one value."""
    samples = torch.full((rows, 192), 0.9)
    place = torch.arange(rows)
    samples[place, place % 192] += (1 + place // 192) / 127.5
    return samples


def distances(samples: Tensor, book: Codebook) -> Tensor:
    """Distances (N, words), each difference on its own and in float64."""
    return torch.cdist(samples.double(), book.get_buffer('rows').double(),
                       compute_mode='donot_use_mm_for_euclid_dist')


@pytest.mark.parametrize(('samples', 'words'), [
    (drawn(2000, 12), 64), (plain(3000, 70), 64), (plain(3000, 63), 64), (near(300), 150),
    (near(300), 300), (drawn(5, 3), 5), (drawn(60, 4).repeat(30, 1), 50)],
    ids=['random', 'a plain table', 'no patch to spare', 'hardly different', 'one word for each',
         'as many words as patches', 'each many times'])
def test_no_word_is_without_a_patch_and_each_patch_has_its_nearest(samples: Tensor, words: int
                                                                   ) -> None:
    book = fitted(samples, words)
    said = book(samples)
    assert said.unique().tolist() == list(range(words))
    apart = distances(samples, book)
    chosen = apart.gather(1, said[:, None])[:, 0]
    assert float((chosen - apart.min(dim=1).values).max()) < 1e-4


def test_no_word_is_without_a_patch_however_few_rounds_there_were(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """The last means can leave a word behind."""
    monkeypatch.setattr(codebook, '_ROUNDS', 1)
    for seed in range(60):
        samples = drawn(120, 1, seed)
        assert len(fitted(samples, 100)(samples).unique()) == 100, seed


def test_means_count_a_patch_as_often_as_it_occurs() -> None:
    samples = torch.tensor([0.0] * 9 + [1.0] + [50.0] * 5)[:, None]
    assert sorted(fitted(samples, 2).get_buffer('rows')[:, 0].tolist()) == pytest.approx(
        [0.1, 50.0])


def test_distances_far_from_zero_would_drown_what_tells_patches_apart() -> None:
    """Negative control: the same formula without taking the middle off."""
    samples = near(300)
    book = fitted(samples, 150)
    rows = book.get_buffer('rows')
    wrong = (rows.square().sum(1) - 2.0 * samples @ rows.T).argmin(1)
    apart = distances(samples, book)
    chosen = apart.gather(1, wrong[:, None])[:, 0]
    assert float((chosen - apart.min(dim=1).values).max()) > 1e-3


def error(samples: Tensor, book: Codebook) -> float:
    return float(distances(samples, book).min(dim=1).values.square().mean())


def test_k_means_is_better_than_patches_at_random_and_finds_groups() -> None:
    samples = drawn(1000, 8)
    guess = Codebook(16, 8)
    guess.get_buffer('rows').copy_(samples[:16])
    assert error(samples, fitted(samples, 16)) < 0.85 * error(samples, guess)
    centres = 20.0 * drawn(6, 8, seed=3)
    groups = centres.repeat_interleave(50, 0) + 0.1 * drawn(300, 8, seed=4)
    found = fitted(groups, 18)
    assert torch.cdist(centres, found.get_buffer('rows')).min(1).values.max() < 1.0
    # A word is the mean of its patches.
    said = found(groups)
    for word in range(18):
        torch.testing.assert_close(found.get_buffer('rows')[word], groups[said == word].mean(0),
                                   rtol=1e-4, atol=1e-4)


def test_twice_is_the_same_and_leaves_other_random_numbers_alone() -> None:
    samples = drawn(500, 12)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = fitted(samples, 20).get_buffer('rows')
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(fitted(samples, 20).get_buffer('rows'), first)
    assert not torch.equal(fitted(drawn(500, 12, seed=1), 20).get_buffer('rows'), first)


def test_words_keep_the_shape_of_what_they_name_and_stay_exact_in_half_precision() -> None:
    samples = near(300)
    book = fitted(samples, 150)
    rows = samples[:24].view(4, 6, 192)
    assert book(rows).shape == (4, 6)
    samples = drawn(2000, 3)
    book = fitted(samples, 256)
    expected = book(samples)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(book(samples), expected)
        # Negative control: a product in half precision gives some to the next word.
        wrong, _ = book._nearest(samples)
    assert int((wrong != expected).sum()) > 20


def test_a_vocabulary_is_kept_with_the_weights_and_never_trained() -> None:
    book = fitted(drawn(50, 4), 6)
    assert [*book.parameters()] == [] and [*book.state_dict()] == ['rows']
    other = Codebook(6, 4)
    other.load_state_dict(book.state_dict())
    assert torch.equal(other(drawn(9, 4)), book(drawn(9, 4)))
    assert not book(drawn(9, 4).requires_grad_()).requires_grad


@pytest.mark.parametrize(('samples', 'words', 'message'), [
    (torch.zeros(30, 4), 2, 'of 30 patches of the training split 1 are different, fewer than the '
                            '2 words of the vocabulary; lower model.tokens'),
    (plain(100, 3), 5, 'of 103 patches of the training split 4 are different'),
    (drawn(7, 4), 8, 'of 7 patches of the training split 7 are different')])
def test_more_words_than_there_are_patches_are_refused(samples: Tensor, words: int, message: str
                                                       ) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(samples, words)


def test_one_word_says_nothing() -> None:
    with pytest.raises(ValueError, match='tokens is 1, must be at least 2'):
        Codebook(1, 4)
