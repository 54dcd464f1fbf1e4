"""The Batch API on loopback: files, batches and their life, with what goes wrong in it on demand."""

import email
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fault_server import REPLY_USAGE, FaultServer, Question, completion, tokens

from mulcot_rd.teacher import TeacherParameters

PRICES = {"fake": {"input_usd": 1.0, "output_usd": 1.0, "images": {"rule": "patches", "patch": 28}}}


@dataclass(frozen=True)
class LineError:
    """A line that gets no answer: with a status, the server's response to it; without, an error of the batch itself."""

    code: str
    message: str = "no"
    status: int | None = 400


@dataclass
class Batch:
    """One batch with the lines of its input file; ``end`` is the state that it comes to."""

    id: str
    input_file_id: str
    metadata: dict[str, str]
    lines: list[dict[str, Any]]
    end: str
    polls_left: int
    status: str = "validating"
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int = 0
    failed: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": 0,
            "input_file_id": self.input_file_id,
            "metadata": self.metadata,
            "status": self.status,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "request_counts": {"total": len(self.lines), "completed": self.completed, "failed": self.failed},
        }


@dataclass
class BatchServer(FaultServer):
    """Files and batches beside the chat completions; lines are answered as those are, by script or ``reply``.

    Attributes:
        line_error: The error of a line, by its body and how often that body came before; ``None`` for an answer.
        ends: State that each batch comes to, in the order of their creation; "completed" once these are used up.
            "token_limit" is a failed batch whose tokens were too many, "broken" one whose file was refused.
        answered_before_end: Lines that an expired or cancelled batch still answers.
        polls: How often a batch is looked at before it is done.
        at: Called with the name of a moment ("upload", "uploaded", "list", "create", "created", "retrieve",
            "content") and how often it has come, before the server goes on.
        paid: ``custom_id`` of every line that was answered: what an account would be charged for.
    """

    line_error: Callable[[dict[str, Any], int], LineError | None] = lambda body, earlier: None
    ends: list[str] = field(default_factory=list)
    answered_before_end: int = 0
    polls: int = 2
    at: Callable[[str, int], None] = lambda moment, time: None
    paid: list[str] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    _files: dict[str, bytes] = field(default_factory=dict)
    _moments: Counter = field(default_factory=Counter)
    _lines: Counter = field(default_factory=Counter)

    def other(
        self, method: str, path: str, headers: dict[str, str], data: bytes
    ) -> tuple[int, dict[str, str], str] | None:
        """The Batch API; faults are worked off here as well."""
        parts = urlsplit(path)
        route = f"{method} {parts.path.removeprefix('/v1')}"
        if not re.match(r"\w+ /(files|batches)", route):
            return None
        if self.faults:
            return self.faults.pop(0)
        if route == "POST /files":
            self._come_to("upload")
            answer = self._upload(headers["content-type"], data)
            self._come_to("uploaded")
            return _ok(answer)
        if route == "GET /batches":
            self._come_to("list")
            return _ok(self._list(parse_qs(parts.query)))
        if route == "POST /batches":
            self._come_to("create")
            answer = self._create(json.loads(data))
            self._come_to("created")
            return _ok(answer)
        if match := re.fullmatch(r"GET /batches/(\w+)", route):
            self._come_to("retrieve")
            found = [batch for batch in self.batches if batch.id == match[1]]
            return _ok(self._look_at(found[0])) if found else _no_such(match[1])
        if match := re.fullmatch(r"GET /files/(\w+)/content", route):
            self._come_to("content")
            return (200, {}, self._files[match[1]].decode()) if match[1] in self._files else _no_such(match[1])
        return _no_such(route)

    def _come_to(self, moment: str) -> None:
        self._moments[moment] += 1
        self.at(moment, self._moments[moment])

    def _upload(self, content_type: str, body: bytes) -> dict[str, Any]:
        form = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
        fields = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
        assert fields["purpose"].get_payload() == "batch"
        content = fields["file"].get_payload(decode=True)
        self.uploads.append(content)
        return {**self._file(content), "filename": fields["file"].get_filename()}

    def _file(self, content: bytes) -> dict[str, Any]:
        name = f"file{len(self._files) + 1}"
        self._files[name] = content
        return {
            "id": name,
            "object": "file",
            "purpose": "batch",
            "bytes": len(content),
            "created_at": 0,
            "filename": f"{name}.jsonl",
            "status": "processed",
        }

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["endpoint"] == "/v1/chat/completions"
        lines = [json.loads(line) for line in self._files[asked["input_file_id"]].splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        end = self.ends.pop(0) if self.ends else "completed"
        name = f"batch{len(self.batches) + 1}"
        batch = Batch(name, asked["input_file_id"], asked.get("metadata") or {}, lines, end, self.polls)
        self.batches.append(batch)
        return batch.as_json()

    def _list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        newest_first = self.batches[::-1]
        if "after" in query:
            names = [batch.id for batch in newest_first]
            newest_first = newest_first[names.index(query["after"][0]) + 1 :]
        # Pages of two: a client that reads the first page alone would be found out.
        page = newest_first[:2]
        return {
            "object": "list",
            "data": [batch.as_json() for batch in page],
            "has_more": len(newest_first) > len(page),
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }

    def _look_at(self, batch: Batch) -> dict[str, Any]:
        if batch.polls_left > 0:
            batch.polls_left -= 1
            batch.status = "in_progress"
        elif batch.status in ("validating", "in_progress"):
            self._finish(batch)
        return batch.as_json()

    def _finish(self, batch: Batch) -> None:
        if batch.end in ("token_limit", "broken"):
            code = "token_limit_exceeded" if batch.end == "token_limit" else "invalid_json_line"
            batch.status, batch.errors = "failed", [{"code": code, "message": f"the {batch.end} message"}]
            return
        batch.status = batch.end
        output: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for number, line in enumerate(batch.lines):
            body = json.dumps(line["body"])
            error = self.line_error(line["body"], self._lines[body])
            if batch.end != "completed" and number >= self.answered_before_end:
                error = LineError(f"batch_{batch.end}", status=None)
            self._lines[body] += 1
            if error is None:
                output.append(self._answer(line))
            else:
                errors.append(_refusal(line, error))
        batch.completed, batch.failed = len(output), len(errors)
        # The API gives the lines in any order.
        if output:
            batch.output_file_id = self._file(_jsonl(output[::-1]))["id"]
        if errors:
            batch.error_file_id = self._file(_jsonl(errors))["id"]

    def _answer(self, line: dict[str, Any]) -> dict[str, Any]:
        body = line["body"]
        self.paid.append(line["custom_id"])
        if self.reply is None:
            message = self.script.message(Question.read(body), body)
            usage = tokens(body, message, self.script.image_tokens)
        else:
            said, usage = self.reply(body), REPLY_USAGE
            message = {"content": said} if isinstance(said, str) else said
        response = {"status_code": 200, "request_id": "r", "body": completion(**message, usage=usage)}
        return {"id": "batch_req_1", "custom_id": line["custom_id"], "response": response, "error": None}


def batch_parameters(server: BatchServer, **changed: Any) -> TeacherParameters:
    """Parameters of a teacher that asks the server by batches."""
    settings = {
        "provider": "openai",
        "mode": "batch",
        "base_url": server.url,
        "model": "fake",
        "backoff_s": 0.01,
        "timeout_s": 10.0,
        "prices": PRICES,
        "batch": {"poll_seconds": 0.02},
    }
    return TeacherParameters(**{**settings, **changed})


def notes(ledger: Path) -> list[Path]:
    """The notes of a ledger's batches."""
    return list(ledger.with_suffix(".batches").iterdir())


def cost_usd(ledger: Path) -> float:
    """What the ledger's answers cost."""
    return sum(json.loads(line)["answer"]["cost_usd"] for line in ledger.read_text().splitlines())


def _refusal(line: dict[str, Any], error: LineError) -> dict[str, Any]:
    said = {"code": error.code, "message": error.message}
    if error.status is None:
        return {"id": "batch_req_1", "custom_id": line["custom_id"], "response": None, "error": said}
    response = {"status_code": error.status, "request_id": "r", "body": {"error": said}}
    return {"id": "batch_req_1", "custom_id": line["custom_id"], "response": response, "error": None}


def _ok(answer: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    return 200, {}, json.dumps(answer)


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _no_such(name: str) -> tuple[int, dict[str, str], str]:
    return 404, {}, json.dumps({"error": {"message": f"no such thing: {name}", "code": "not_found"}})
