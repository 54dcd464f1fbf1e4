"""A real HTTP server on loopback that speaks the chat completions API and fails on demand."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mulcot_rd.reasoning import write
from mulcot_rd.schema import Post, Reasoning, Sentiment


def reasoning_text(label: str, **changed: str) -> str:
    sections = {
        "text_analysis": "The words sound like this.",
        "image_analysis": "The picture is bright.",
        "conflict_resolution": "There is no conflict.",
        "final_conclusion": f"The post is {label}.",
    }
    return write(Reasoning(**{**sections, **changed}, prediction=Sentiment(label)))


@dataclass
class FakeServer:
    """Answers with ``reply(body)``, or first works off ``faults``: (status, headers, body), "hang" or "drop"."""

    reply: Callable[[dict[str, Any]], str | dict[str, Any]] = lambda body: reasoning_text("positive")
    faults: list[Any] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    delay_s: float = 0.0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"][1]["text"] for request in self.requests]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    state = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.requests.append(body)
                state.times.append(time.monotonic())
                state.keys.append(self.headers.get("Authorization"))
                fault = state.faults.pop(0) if state.faults else None
                state.in_flight += 1
                state.most_in_flight = max(state.most_in_flight, state.in_flight)
            try:
                self.respond(body, fault)
            finally:
                with state.lock:
                    state.in_flight -= 1

        def respond(self, body: dict[str, Any], fault: Any) -> None:
            time.sleep(state.delay_s)
            if fault == "hang":
                time.sleep(1.0)
                self.close_connection = True
            elif fault == "drop":
                self.close_connection = True
            elif fault is not None:
                self.send(*fault)
            else:
                reply = state.reply(body)
                message = {"content": reply, "finish_reason": "stop"} if isinstance(reply, str) else reply
                self.send(200, {}, json.dumps(completion(**message)))

        def send(self, status: int, headers: dict[str, str], text: str) -> None:
            data = text.encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()


def completion(content: str, finish_reason: str = "stop") -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 0,
        "model": "fake-model-2026",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    Image.new("RGB", (40, 30), (250, 200, 120)).save(path)
    return str(path)


@pytest.fixture
def make_post(image: str) -> Callable[..., Post]:
    def make(number: int = 1, label: str = "positive", **changed: Any) -> Post:
        fields = {
            "id": f"train-{number}",
            "split": "train",
            "text": f"Post number {number} about Lydia",
            "aspect": "Lydia",
            "image": image,
            "label": label,
        }
        return Post(**{**fields, **changed})

    return make
