"""The Batch API on loopback: files, batches and their life, with what goes wrong in it on demand."""

import email
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


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
class BatchServer:
    """Files and batches.

    Attributes:
        reply: The answer to the body of a line, or its error.
        ends: State that each batch comes to, in the order of their creation; "completed" once these are used up.
            "token_limit" is a failed batch whose tokens were too many, "broken" one whose file was refused.
        answered_before_end: Lines that an expired or cancelled batch still answers.
        polls: How often a batch is looked at before it is done.
        at: Called with the name of a moment ("upload", "uploaded", "list", "create", "created", "retrieve",
            "content", "content sent") and how often it has come, before the server goes on.
        faults: Responses (status, headers, body) that the next requests get in place of their own.
        paid: Lines that were answered, as (custom_id, body): what an account would be charged for.
    """

    reply: Callable[[dict[str, Any]], str | dict[str, Any] | LineError]
    ends: list[str] = field(default_factory=list)
    answered_before_end: int = 0
    polls: int = 2
    at: Callable[[str, int], None] = lambda moment, time: None
    faults: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    paid: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    url: str = ""
    _files: dict[str, bytes] = field(default_factory=dict)
    _moments: dict[str, int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def handle(self, method: str, path: str, content_type: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON (or the bytes of a file)."""
        parts = urlsplit(path)
        route = f"{method} {parts.path.removeprefix('/v1')}"
        with self._lock:
            if route == "POST /files":
                self._come_to("upload")
                answer = self._upload(content_type, body)
                self._come_to("uploaded")
                return 200, answer
            if route == "GET /batches":
                self._come_to("list")
                return 200, self._list(parse_qs(parts.query))
            if route == "POST /batches":
                self._come_to("create")
                answer = self._create(json.loads(body))
                self._come_to("created")
                return 200, answer
            if match := re.fullmatch(r"GET /batches/(\w+)", route):
                self._come_to("retrieve")
                found = [batch for batch in self.batches if batch.id == match[1]]
                return (200, self._look_at(found[0])) if found else _no_such(match[1])
            if match := re.fullmatch(r"GET /files/(\w+)/content", route):
                self._come_to("content")
                return (200, self._files[match[1]]) if match[1] in self._files else _no_such(match[1])
            return _no_such(route)

    def _come_to(self, moment: str) -> None:
        self._moments[moment] = self._moments.get(moment, 0) + 1
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
            if batch.end == "completed" or number < self.answered_before_end:
                answer = self.reply(line["body"])
            else:
                answer = LineError(f"batch_{batch.end}", status=None)
            (errors if isinstance(answer, LineError) else output).append(self._result(line, answer))
        batch.completed, batch.failed = len(output), len(errors)
        # The API gives the lines in any order.
        if output:
            batch.output_file_id = self._file(_jsonl(output[::-1]))["id"]
        if errors:
            batch.error_file_id = self._file(_jsonl(errors))["id"]

    def _result(self, line: dict[str, Any], answer: str | dict[str, Any] | LineError) -> dict[str, Any]:
        result = {"id": f"request_{line['custom_id'][:8]}", "custom_id": line["custom_id"]}
        if isinstance(answer, LineError):
            error = {"code": answer.code, "message": answer.message}
            if answer.status is None:
                return {**result, "response": None, "error": error}
            return {**result, "response": {"status_code": answer.status, "body": {"error": error}}, "error": None}
        self.paid.append((line["custom_id"], line["body"]))
        message = {"content": answer} if isinstance(answer, str) else answer
        return {**result, "response": {"status_code": 200, "body": completion(**message)}, "error": None}


def completion(content: str, finish_reason: str = "stop") -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 0,
        "model": "fake-model-2026",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


@contextmanager
def serving(api: BatchServer) -> Iterator[BatchServer]:
    """The server on a port of loopback; its address is in ``api.url``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.respond("GET")

        def do_POST(self) -> None:
            self.respond("POST")

        def respond(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if api.faults:
                status, headers, answer = api.faults.pop(0)
            else:
                headers = {}
                status, answer = api.handle(method, self.path, self.headers.get("Content-Type", ""), body)
            data = (
                answer
                if isinstance(answer, bytes)
                else (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            )
            try:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    api.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        http.shutdown()
        http.server_close()


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _no_such(name: str) -> tuple[int, Any]:
    return 404, {"error": {"message": f"no such thing: {name}", "code": "not_found"}}
