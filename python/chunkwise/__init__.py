"""Chunkwise: a compiler for attention variants. State the recurrence; `compile` gives a function of your tensors.

>>> import chunkwise, numpy as np
>>> gla = chunkwise.compile("@gla")
>>> q = k = v = g = np.zeros((1, 8, 2, 4), np.float32)
>>> gla(q, k, v, g).shape
(1, 8, 2, 4)
"""

from __future__ import annotations

from ._engine import __version__
from ._variant import Report, Session, State, Tensor, Variant, compile, examples
from .errors import (
    ChunkwiseWarning,
    DeviceError,
    Diagnostic,
    DtypeError,
    Error,
    ShapeError,
    SourceError,
    Unsupported,
    VerifyError,
)

__all__ = [
    "ChunkwiseWarning",
    "DeviceError",
    "Diagnostic",
    "DtypeError",
    "Error",
    "Report",
    "Session",
    "ShapeError",
    "SourceError",
    "State",
    "Tensor",
    "Unsupported",
    "Variant",
    "VerifyError",
    "__version__",
    "compile",
    "examples",
]
