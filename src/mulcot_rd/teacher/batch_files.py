"""The two files of a batch: questions on the way in, answers and errors on the way out, a JSON object a line."""

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDPOINT = "/v1/chat/completions"


@dataclass(frozen=True)
class InputFile:
    """A file to upload and the keys of its lines, in order."""

    path: Path
    keys: tuple[str, ...]


@dataclass(frozen=True)
class LineResult:
    """What became of one line.

    Attributes:
        key: The line's ``custom_id``.
        status: HTTP status of the line's own request, or ``None`` where the batch ended before it.
        body: What the server answered to it: a completion, or an object with ``error``.
        code: The batch's word for why there is no answer (``batch_expired``), or ``None``.
    """

    key: str
    status: int | None
    body: dict[str, Any]
    code: str | None


async def write_input_files(
    path: Path, bodies: AsyncIterator[tuple[str, dict[str, Any]]], max_requests: int, max_bytes: int
) -> AsyncIterator[InputFile]:
    """Write questions to ``path`` and hand it out each time it is full; it is written anew for the next.

    Args:
        path: The file.
        bodies: Key and chat completion request of each question.
        max_requests: Most lines of a file.
        max_bytes: Most bytes of a file; a line that is longer alone gets a file of its own.

    Yields:
        The file, complete; it must be uploaded before the next is asked for.
    """
    left: tuple[str, bytes] | None = None
    more = True
    while more:
        keys: list[str] = []
        size = 0
        more = False
        with path.open("wb") as file:
            if left is not None:
                keys, size, left = [left[0]], file.write(left[1]), None
            async for key, body in bodies:
                line = _line(key, body)
                if keys and (len(keys) == max_requests or size + len(line) > max_bytes):
                    left, more = (key, line), True
                    break
                size += file.write(line)
                keys.append(key)
        if keys:
            yield InputFile(path, tuple(keys))
    path.unlink(missing_ok=True)


def read_results(lines: Iterable[bytes]) -> dict[str, LineResult]:
    """What became of each line that output and error file speak of, by key; a line that is no result is passed over."""
    results: dict[str, LineResult] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or not isinstance(row.get("custom_id"), str):
            continue
        response, error = row.get("response") or {}, row.get("error") or {}
        results[row["custom_id"]] = LineResult(
            key=row["custom_id"],
            status=response.get("status_code"),
            body=response.get("body") or {},
            code=error.get("code"),
        )
    return results


def _line(key: str, body: dict[str, Any]) -> bytes:
    row = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
