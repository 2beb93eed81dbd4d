# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Let a CUDA build of torchvision load beside a CPU build of torch.

Package indices serve one torchvision wheel, built for CUDA. Beside a CPU torch its compiled
operators are not registered, and ``import torchvision`` (so timm, too) stops at "operator
torchvision::nms does not exist". Declaring the two operators that are looked up at import is
enough for models and transforms; torchvision's own nms and roi_align stay unavailable.
"""

from __future__ import annotations

import importlib.util
import sys

import torch

# The operators exist as long as this object does.
_library: torch.library.Library | None = None


def declare_missing_operators() -> bool:
    """
    Declare torchvision's operators where its binary cannot register them.

    Call it before the first import of torchvision or timm. Returns whether it was needed.
    """
    global _library
    if _library is not None:
        return True
    if 'torchvision' in sys.modules or importlib.util.find_spec('torchvision') is None:
        return False
    if torch.version.cuda is not None:
        return False  # a CUDA torch loads torchvision's own operators
    library = torch.library.Library('torchvision', 'DEF')
    library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    library.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    _library = library
    return True
