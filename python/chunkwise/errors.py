"""What can go wrong: one class a kind, all of them `chunkwise.Error`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._variant import Report

__all__ = [
    "ChunkwiseWarning",
    "DeviceError",
    "Diagnostic",
    "DtypeError",
    "Error",
    "ShapeError",
    "SourceError",
    "Unsupported",
    "VerifyError",
]


class Error(Exception):
    """Something that was asked of chunkwise and cannot be done."""


class ChunkwiseWarning(UserWarning):
    """Something that is legal and hardly meant, or slow."""


@dataclass(frozen=True)
class Diagnostic:
    """One finding about a source. Lines and columns count from 1, columns in characters."""

    severity: str
    code: str
    message: str
    line: int | None
    column: int | None
    help: str | None


class SourceError(Error):
    """A source that does not check; `str` is the text that the command prints, `diagnostics` all findings."""

    def __init__(self, text: str, found: list[tuple[str, str, str, int | None, int | None, str | None]]) -> None:
        super().__init__(text, found)
        self.text = text
        self.diagnostics = tuple(Diagnostic(*one) for one in found)

    def __str__(self) -> str:
        return self.text


class ShapeError(Error, ValueError):
    """A tensor of another shape than the variant and the other tensors say."""


class DtypeError(Error, TypeError):
    """A tensor of other elements than the variant declares."""


class DeviceError(Error, RuntimeError):
    """A tensor, or a back end, that is not where work can be done."""


class Unsupported(Error, NotImplementedError):
    """Something that no kernel does: `operation`, `reason`, and `way_out`."""

    def __init__(self, text: str, operation: str, reason: str, way_out: str) -> None:
        super().__init__(text, operation, reason, way_out)
        self.text, self.operation, self.reason, self.way_out = text, operation, reason, way_out

    def __str__(self) -> str:
        return self.text


class VerifyError(Error, AssertionError):
    """A form or back end that is over its bound; `report` has the table."""

    def __init__(self, text: str, report: Report) -> None:
        super().__init__(text, report)
        self.text, self.report = text, report

    def __str__(self) -> str:
        return self.text
