# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Networks as the ONNX graphs of a bundle, with fixed names and a dynamic batch."""

from __future__ import annotations

from pathlib import Path
import warnings

import onnx
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.networks.encoder import Encoder
import torch
from torch import nn, Tensor

OPSET = 18
_COLOURS = 3


class EncoderGraph(nn.Module):
    """An encoder whose pictures become numbers first: TensorRT does nothing else with bytes."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, tokens, dim) of pictures uint8 (batch, cameras, height, width, 3)."""
        features: Tensor = self.encoder(images.float())
        return features


class DecoderGraph(nn.Module):
    """The ``decode`` of an objective as a network of its own."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, features: Tensor) -> Tensor:
        """Pictures uint8 (batch, cameras, h, w, 3) of features (batch, tokens, dim)."""
        pictures: Tensor = self.objective.decode(features)  # type: ignore[operator]
        return pictures


class ColourGraph(nn.Module):
    """
    Show what an encoder sees where: the first three principal components of its maps as colours.

    Parameters
    ----------
    encoder
        Its ``maps`` are shown.
    images
        uint8 (batch, cameras, height, width, 3): the components are those of these pictures, and
        each colour spans all but the outer hundredths of what occurs in them.

    """

    def __init__(self, encoder: Encoder, images: Tensor) -> None:
        super().__init__()
        self.encoder = encoder.eval()
        with torch.no_grad():
            maps = torch.cat([encoder.maps(part) for part in images.split(encoder.rows_at_once)])
            places = maps.flatten(0, -2).double()
            mean = places.mean(dim=0)
            centred = places - mean
            # Of the covariance: its size is that of the channels, not that of all places.
            found = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :_COLOURS]
            # A component may point either way: the largest number says which, the same each time.
            largest = found.abs().argmax(dim=0)
            found = found * found[largest, torch.arange(found.shape[1])].sign()
            axes = torch.zeros(len(mean), _COLOURS, dtype=torch.double)
            axes[:, :found.shape[1]] = found
            shown = centred @ axes
            edges = torch.stack([_quantile(shown, share) for share in (0.01, 0.99)])
        self.register_buffer('mean', mean.float())
        # Components, and how far each reaches, in one product.
        scale = (edges[1] - edges[0]).clamp_min(1e-6)
        self.register_buffer('axes', (axes / scale).float())
        self.register_buffer('low', (edges[0] / scale).float())

    def forward(self, images: Tensor) -> Tensor:
        """Pictures uint8 (batch, cameras, rows, columns, 3) of images."""
        maps = self.encoder.maps(images.float()) - self.get_buffer('mean')
        shares = maps @ self.get_buffer('axes') - self.get_buffer('low')
        pictures = 255.0 * shares.clamp(0.0, 1.0) + 0.5
        # Bytes last of all: TensorRT does nothing else with them.
        found: Tensor = pictures.unflatten(0, (-1, self.encoder.cameras)).to(torch.uint8)
        return found


def _forget_sources(model: onnx.ModelProto) -> None:
    """Take off where in the source each node came from: paths of this machine, for nobody else."""
    for item in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output,
                 *model.graph.value_info, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ''


def _quantile(values: Tensor, share: float) -> Tensor:
    """Of each column, by sorting: ``torch.quantile`` takes no more than 16 million numbers."""
    place = round(share * (len(values) - 1))
    return values.sort(dim=0).values[place]


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
    model = onnx.load(str(path))
    _forget_sources(model)
    onnx.save(model, str(path))
    graph = model.graph
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.dim_param:
            raise BundleError(
                f'{path.name}: the batch of {value.name} was fixed to {first.dim_value} by the '
                'export; the network uses its size as a number somewhere')
