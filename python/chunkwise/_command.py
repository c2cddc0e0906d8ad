"""The `chunkwise` command, run in a process of its own: what it prints as values of Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import Error, Unsupported

__all__ = ["Report", "run"]


class Report(Sequence[dict[str, Any]]):
    """The rows of a table, a dict each; `str` is the table."""

    def __init__(self, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
        self.rows, self.columns = rows, tuple(columns)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __str__(self) -> str:
        cells = [list(self.columns)] + [[_cell(row.get(name)) for name in self.columns] for row in self.rows]
        widths = [max(len(row[at]) for row in cells) for at in range(len(self.columns))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells)

    __repr__ = __str__


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else str(value)


def run(words: Sequence[str], source: str) -> tuple[list[str], list[dict[str, Any]], int]:
    """The lines of a command on a source, what it said beside them, and its exit status: 0, or 1 where a check failed.

    Raises what the command was refused for.
    """
    here = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH")) if part)
    done = subprocess.run(
        [sys.executable, "-m", "chunkwise", *words],
        input=source.encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    said = [_said(line) for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [one for one in said if one["severity"] == "error"]
    if done.returncode not in (0, 1) or (done.returncode == 1 and any(one["code"] == "failed" for one in errors)):
        raise _refused(errors, done.returncode)
    return done.stdout.decode().splitlines(), said, done.returncode


def _said(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"severity": "error", "code": "failed", "message": line}


def _refused(errors: list[dict[str, Any]], status: int) -> Error:
    text = "\n".join(str(one["message"]) for one in errors) or f"the command ended with status {status}"
    for one in errors:
        if one["code"] == "unsupported":
            operation, _, reason = str(one["message"]).partition(" is unsupported: ")
            return Unsupported(text, operation, reason, str(one.get("help") or ""))
    return Error(text)
