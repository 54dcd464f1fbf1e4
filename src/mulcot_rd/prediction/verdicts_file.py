"""A file of verdicts, a row each: JSON lines, CSV or Parquet by its ending."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mulcot_rd.errors import UserError
from mulcot_rd.files import replace_file
from mulcot_rd.schema import Sentiment, Verdict

FORMATS = (".csv", ".jsonl", ".parquet")
# Whole numbers and truth values stay what they are beside rows that have none.
_TYPES = {"agrees": "boolean", "attempts": "Int64", "label_attempts": "Int64"}


def check_format(path: Path, what: str) -> None:
    """Check that a file has the ending of a known format.

    Raises:
        UserError: If it has not.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{what} {path} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")


def verdict_row(post_id: str, aspect: str | None, verdict: Verdict | None, error: str | None) -> dict[str, Any]:
    """A row of the file: the verdict on one aspect of a post, or the reason why there is none."""
    said: dict[str, Any] = dict.fromkeys(Verdict.model_fields) if verdict is None else verdict.model_dump(mode="json")
    probabilities = said.pop("probabilities") or {}
    return {
        "id": post_id,
        "aspect": aspect,
        "label": said.pop("label"),
        **{f"probability_{label}": probabilities.get(label.value) for label in Sentiment},
        "agrees": None if verdict is None else verdict.agrees,
        **said,
        "error": error,
    }


def write_verdicts(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows of :func:`verdict_row` in one step."""
    replace_file(path, lambda temporary: _write(rows, temporary, path.suffix.lower()))


def _write(rows: Sequence[dict[str, Any]], path: Path, kind: str) -> None:
    if kind == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return
    frame = pd.DataFrame(rows, columns=list(verdict_row("", None, None, None))).astype(_TYPES)
    if kind == ".csv":
        # A lone carriage return would end the row if it stood outside of quotes.
        frame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)
    else:
        frame.to_parquet(path, index=False)


def read_verdicts(path: Path) -> pd.DataFrame:
    """Read a file of :func:`write_verdicts`."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        return pd.read_parquet(path)
    text = {"id": str, "aspect": str, "error": str}
    frame = pd.read_json(path, lines=True, dtype=text) if kind == ".jsonl" else pd.read_csv(path, dtype=text)
    return frame.astype(_TYPES)
