# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Networks as the ONNX graphs of a bundle, with fixed names and a dynamic batch."""

from __future__ import annotations

from pathlib import Path
import warnings

import onnx
from ssl_vla_ros.errors import BundleError
import torch
from torch import nn, Tensor

OPSET = 18


class DecoderGraph(nn.Module):
    """The ``decode`` of an objective as a network of its own."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, features: Tensor) -> Tensor:
        """Pictures uint8 (batch, cameras, h, w, 3) of features (batch, tokens, dim)."""
        pictures: Tensor = self.objective.decode(features)  # type: ignore[operator]
        return pictures


def export_graph(network: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    """
    Write one network to an ONNX file.

    Parameters
    ----------
    network
        In evaluation mode.
    inputs
        Name and example of each input; the batch must be at least 2, or it would be baked in.
    output
        Name of the output.
    path
        The file.

    Raises
    ------
    BundleError
        If the graph cannot be exported, or its batch is not dynamic.

    """
    batch = torch.export.Dim('batch', min=1, max=65536)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            program = torch.onnx.export(
                network.eval(), tuple(inputs.values()), input_names=list(inputs),
                output_names=[output], opset_version=OPSET, dynamo=True, verbose=False,
                dynamic_shapes=tuple({0: batch} for _ in inputs))
        except Exception as error:  # the exporter raises many kinds, none of them documented
            raise BundleError(
                f'{path.name}: the network cannot be exported to ONNX: '
                f'{str(error).splitlines()[0] if str(error) else type(error).__name__}'
            ) from error
    assert program is not None
    program.save(str(path), external_data=False)
    graph = onnx.load(str(path)).graph
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.dim_param:
            raise BundleError(
                f'{path.name}: the batch of {value.name} was fixed to {first.dim_value} by the '
                'export; the network uses its size as a number somewhere')
