# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Graphs in fewer bits: float16 for GPUs, 8-bit integers for CPUs and Jetsons.

Both take ONNX Runtime's own tools. Inputs and outputs keep their types, so that a bundle is used
alike whatever its precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import logging
from pathlib import Path
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from ssl_vla_ros.errors import BundleError

#: What is worth 8 bits: the products. Adding them up, normalising and attention's exponentials
#: cost little, and lose most.
_PRODUCTS = ['Conv', 'MatMul', 'Gemm']


def to_half(source: Path, target: Path) -> None:
    """
    Convert a float32 graph to float16, but for its inputs and outputs.

    Raises
    ------
    BundleError
        If the graph cannot be converted.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # numbers below 6e-8 become that
            onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    except Exception as error:  # the tool raises many kinds, none of them documented
        raise _failed(target, 'fp16', error) from error


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hand out real inputs one by one."""

    def __init__(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        count = len(next(iter(inputs.values())))
        self._left: Iterator[dict[str, NDArray[Any]]] = iter(
            [{name: value[i:i + 1] for name, value in inputs.items()} for i in range(count)])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Give the next sample; None at the end."""
        return next(self._left, None)


def to_eight_bits(source: Path, target: Path, inputs: Mapping[str, NDArray[np.generic]]) -> None:
    """
    Quantise a float32 graph to 8-bit integers, by the ranges that real inputs have.

    Weights have a scale for each channel; activations are unsigned, which CPUs multiply twice as
    fast with signed weights as signed with signed. Weights have 7 bits: where a CPU lacks VNNI,
    sums of two products of 8 bits each overflow 16 bits, and are cut off without a word.

    Raises
    ------
    BundleError
        If the graph cannot be quantised.

    """
    prepared = target.with_suffix('.prepared')
    # The tool tells of every node that it leaves alone.
    told, level = logging.getLogger(), logging.getLogger().level
    told.setLevel(logging.ERROR)
    try:
        quant_pre_process(str(source), str(prepared))
        kinds = quantization.QuantType
        quantization.quantize_static(
            str(prepared), str(target), _Samples(inputs),
            quant_format=quantization.QuantFormat.QDQ, activation_type=kinds.QUInt8,
            weight_type=kinds.QInt8, per_channel=True, op_types_to_quantize=_PRODUCTS,
            reduce_range=True)
    except Exception as error:  # the tool raises many kinds, none of them documented
        raise _failed(target, 'int8', error) from error
    finally:
        told.setLevel(level)
        prepared.unlink(missing_ok=True)


def _failed(target: Path, precision: str, error: Exception) -> BundleError:
    said = ' '.join(str(error).split())[:300] or type(error).__name__
    return BundleError(f'{target.name}: cannot be converted to {precision}: {said}; '
                       'export with --precision fp32')
