"""A real HTTP server on loopback with the chat completions API and fails as its script says.

What it does with a request follows from the request's content alone (which post, which stage, which attempt, how often
that very question came before), never from time: a test can work out from the script how many requests an annotation
needs at least. It runs in a thread of the test's process (:meth:`FaultServer.running`), where tests read its log, or
as a process of its own (``python tests/teacher/fault_server.py --help``), which prints its address and serves its
counts at ``GET /log``.
"""

import argparse
import asyncio
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

MODEL = "fake-model-2026"
LABELS = ("negative", "neutral", "positive")
# Faults on the way, which heal: the same request gets its answer after them.
FAULTS = ("429", "429-after", "500", "503", "drop", "half-closed", "torn-json", "no-choices", "html")
# Those after which a server may well send a bill, since it had worked on the answer.
BILLED_FAULTS = ("hang", "drop", "half-closed", "torn-json", "no-choices")
# Answers that arrive whole and can't be used.
FLAWS = ("other-word", "missing-section", "refusal", "cut", "empty", "prose", "wrong-label", "leak")
# Answers that look unusual and can be used.
FORMS = ("plain", "markdown", "fenced", "json")
# Prompt and completion tokens of an answer that a test's own ``reply`` wrote.
REPLY_USAGE = (10, 5)

_POST = re.compile(r'^Post: (".*")$', re.MULTILINE)
_TOLD = re.compile(r"has been established: it is (\w+)")


@dataclass(frozen=True)
class Question:
    """What a request asks: about which post (its text), with which label told, for the how manieth time."""

    post: str
    told: str | None
    attempt: int

    @classmethod
    def read(cls, body: dict[str, Any]) -> "Question":
        """The question in a request's body; a conversation about no post is named by its whole text."""
        text = text_of(body["messages"][0])
        told, posts = _TOLD.search(text), _POST.findall(text)
        return cls(
            post=json.loads(posts[-1]) if posts else text,
            told=told.group(1) if told else None,
            attempt=1 + sum(turn["role"] == "assistant" for turn in body["messages"]),
        )


@dataclass(frozen=True)
class Script:
    """What the server does: a pure function of the question and of how often it came before.

    Attributes:
        seed: Another seed gives other faults, flaws and verdicts to the same posts.
        fault_share: Share of questions that meet 1 to ``most_faults`` faults before their answer.
        faults: Faults to draw from; "hang" (never answers) besides those of ``FAULTS``.
        most_faults: Most faults of one question.
        flaw_share: Share of answers that can't be used.
        flaws: Flaws to draw from.
        hopeless: Texts of posts that never get a usable answer.
        response_format: A JSON schema is kept to ("supported"), passed over ("ignored"), or answered with 400
            ("refused") or 500 ("broken").
        latency_s: Least and most seconds before an answer.
        latency_seed: Another seed gives the same answers at other moments.
        retry_after_s: What "429-after" asks to wait.
        image_tokens: Prompt tokens that an image counts.
        key: The key to ask for; another one gets a 401 that repeats it, as the OpenAI API does.
    """

    seed: int = 0
    fault_share: float = 0.0
    faults: tuple[str, ...] = FAULTS
    most_faults: int = 2
    flaw_share: float = 0.0
    flaws: tuple[str, ...] = FLAWS
    hopeless: tuple[str, ...] = ()
    response_format: str = "ignored"
    latency_s: tuple[float, float] = (0.0, 0.0)
    latency_seed: int = 0
    retry_after_s: float = 0.05
    image_tokens: int = 85
    key: str | None = None

    def faults_before(self, question: Question) -> tuple[str, ...]:
        """The faults that a question meets before its answer, in order."""
        if self._draw("fault", question) >= self.fault_share:
            return ()
        count = 1 + int(self._draw("faults", question) * self.most_faults)
        return tuple(self._choice(self.faults, "which", question, number) for number in range(count))

    def verdict(self, question: Question) -> str:
        """The label that the server answers: the told one, or one of its own that is the same at every attempt."""
        return question.told or self._choice(LABELS, "verdict", question.post)

    def flaw(self, question: Question) -> str | None:
        """What makes the answer to a question unusable, or ``None``."""
        if question.post in self.hopeless:
            return "prose"
        if self._draw("flaw", question) >= self.flaw_share:
            return None
        # Another label and a leak are mistakes only where the label was told.
        possible = [flaw for flaw in self.flaws if question.told or flaw not in ("wrong-label", "leak")]
        return self._choice(possible, "flaw", question, "which") if possible else None

    def message(self, question: Question, body: dict[str, Any]) -> dict[str, Any]:
        """``content``, ``refusal`` and ``finish_reason`` of the answer."""
        flaw, label = self.flaw(question), self.verdict(question)
        said = {"content": None, "refusal": None, "finish_reason": "stop"}
        if flaw == "refusal":
            return {**said, "refusal": "I'm sorry, but I can't help with that."}
        if flaw == "empty":
            return {**said, "content": ""}
        if flaw == "prose":
            return {**said, "content": f"This is a post. I think it is rather {label}, all in all."}
        if flaw == "other-word":
            return {**said, "content": written(sections(label), "mixed")}
        if flaw == "missing-section":
            return {**said, "content": written(dict(list(sections(label).items())[1:]), label)}
        if flaw == "wrong-label":
            return {**said, "content": written(sections(label), next(one for one in LABELS if one != label))}
        if flaw == "leak":
            leaking = {**sections(label), "Final_conclusion": f"In line with the given label, it is {label}."}
            return {**said, "content": written(leaking, label)}
        if flaw == "cut":
            return {**said, "content": written(sections(label), label)[:150], "finish_reason": "length"}
        schema = (body.get("response_format") or {}).get("json_schema")
        form = "json" if schema and self.response_format == "supported" else self._choice(FORMS, "form", question)
        return {**said, "content": written(sections(label), label, form)}

    def wait_s(self, question: Question, arrival: int) -> float:
        """Seconds before the answer."""
        least, most = self.latency_s
        return least + (most - least) * self._draw("latency", self.latency_seed, question, arrival)

    def least_requests(self, text: str, label: str, max_retries: int, *, reference: bool = False) -> int:
        """The requests without which a post can't be annotated, faults included.

        Args:
            text: The post's text.
            label: Its gold label, told in stage two.
            max_retries: Further answers after an unusable one, a stage.
            reference: Whether it is a post of the test split, which stage two leaves alone.
        """
        requests, verdict = self.stage(text, None, max_retries)
        if verdict == label or reference:
            return requests
        return requests + self.stage(text, label, max_retries)[0]

    def answerable(self, text: str, label: str, max_retries: int) -> bool:
        """Whether one of the two stages comes to a usable answer."""
        return self.stage(text, None, max_retries)[1] == label or self.stage(text, label, max_retries)[1] is not None

    def stage(self, text: str, told: str | None, max_retries: int) -> tuple[int, str | None]:
        """The least number of requests of one stage, and the label of its usable answer (``None``: it has none)."""
        requests = 0
        for attempt in range(1, max_retries + 2):
            question = Question(text, told and str(told), attempt)
            requests += 1 + len(self.faults_before(question))
            if self.flaw(question) is None:
                return requests, self.verdict(question)
        return requests, None

    def _draw(self, *what: Any) -> float:
        digest = hashlib.sha256(repr((self.seed, *what)).encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def _choice(self, options: Any, *what: Any) -> Any:
        return options[int(self._draw("choice", *what) * len(options))]


@dataclass
class Logged:
    """One request as the server saw it.

    Attributes:
        question: What it asks.
        content: Hash of the conversation, images included.
        arrival: How manieth time this content came, from 1.
        arrived_s: Monotonic seconds.
        authorised: Whether it had an Authorization header.
        reaction: "answer", or the fault.
        usage: Prompt and completion tokens to pay for; zero where the server would send no bill.
        answered_s: When a whole answer was handed to the connection, or ``None``.
    """

    question: Question
    content: str
    arrival: int
    arrived_s: float
    authorised: bool
    reaction: str
    usage: tuple[int, int] = (0, 0)
    answered_s: float | None = None


@dataclass
class FaultServer:
    """The server. ``reply`` and ``faults`` let a test say what comes instead of what the script says.

    Attributes:
        script: What it does with a request.
        reply: Takes a request's body, gives the answer's text or its ``content`` and ``finish_reason``.
        faults: Worked off first, one a request: a name out of ``FAULTS`` or (status, headers, body).
        delay_s: Seconds before every reaction, besides the script's.
        answers_sent: Answers handed to a connection whole.
        models: What it lists at ``/models``.
        most_requests: After as many it answers 503 to everything: a client gone wild ends a test soon.
        requests: Bodies of all requests, in order of arrival.
        log: What became of them.
    """

    script: Script = Script()
    reply: Callable[[dict[str, Any]], str | dict[str, Any]] | None = None
    faults: list[Any] = field(default_factory=list)
    delay_s: float = 0.0
    most_requests: int = 100_000
    models: tuple[str, ...] = (MODEL,)
    requests: list[dict[str, Any]] = field(default_factory=list)
    log: list[Logged] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""
    answers_sent: int = 0
    keep_bodies: bool = True
    _arrivals: Counter = field(default_factory=Counter)
    _asked: Counter = field(default_factory=Counter)

    @property
    def times(self) -> list[float]:
        """When each request arrived."""
        return [entry.arrived_s for entry in self.log]

    @property
    def prompts(self) -> list[str]:
        """The first text of every conversation."""
        return [text_of(body["messages"][0]) for body in self.requests]

    @property
    def answered(self) -> list[Logged]:
        """Requests whose answer was sent completely."""
        return [entry for entry in self.log if entry.answered_s is not None]

    def wait_for_answers(self, number: int, until: Callable[[], bool] = lambda: False) -> None:
        """Block until that many answers have been sent in all, or ``until`` is true."""
        while self.answers_sent < number and not until():
            time.sleep(0.001)

    def wait_for_requests(self, number: int) -> None:
        """Block until that many requests have come in all."""
        while len(self.log) < number:
            time.sleep(0.001)

    def cost_usd(self, input_usd: float, output_usd: float) -> float:
        """The bill so far, at prices a million tokens: whatever the server worked on, received or not."""
        prompt = sum(entry.usage[0] for entry in self.log)
        completion = sum(entry.usage[1] for entry in self.log)
        return (prompt * input_usd + completion * output_usd) / 1e6

    @contextmanager
    def running(self) -> Iterator["FaultServer"]:
        """Serve from a thread until the block ends."""
        loop = asyncio.new_event_loop()
        ready = threading.Event()
        stop: list[asyncio.Event] = []

        async def serve() -> None:
            stop.append(asyncio.Event())
            async with await self.start():
                ready.set()
                await stop[0].wait()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop[0].set)
            thread.join(10)

    async def start(self) -> asyncio.Server:
        """Listen on a port of the system's choice."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that was killed, or lost patience, is no fault of the server's.
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        self.headers.append(headers)
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        other = self.other(method, path, headers, data)
        if other is not None:
            await _send(writer, *other)
            return True
        if method == "GET":
            await _send(writer, 200, {}, json.dumps(self._read_only(path)))
            return True
        body = json.loads(data)
        if not body["messages"]:
            await _send(writer, 400, {}, _error("[] is too short - 'messages'", None))
            return True
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._react(body, headers.get("authorization"), reader, writer)
        finally:
            self.in_flight -= 1

    def other(
        self, method: str, path: str, headers: dict[str, str], data: bytes
    ) -> tuple[int, dict[str, str], str] | None:
        """Status, headers and body for what is no chat completion; ``None`` leaves it to the rest."""
        return None

    def _read_only(self, path: str) -> dict[str, Any]:
        if path.endswith("/log"):
            return {
                "requests": len(self.log),
                "answered": len(self.answered),
                "repeated": sum(entry.arrival > 1 for entry in self.log),
                "most_in_flight": self.most_in_flight,
                "first_s": self.log[0].arrived_s if self.log else None,
                "last_s": max((entry.answered_s or 0.0 for entry in self.log), default=None),
            }
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}

    async def _react(
        self, body: dict[str, Any], key: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        entry = self._enter(body, key)
        await asyncio.sleep(self.delay_s + self.script.wait_s(entry.question, entry.arrival))
        reaction = self.faults.pop(0) if self.faults else entry.reaction
        if reaction == "answer":
            message = self.script.message(entry.question, body)
            entry.usage = tokens(body, message, self.script.image_tokens)
            if self.reply is not None:
                said = await asyncio.to_thread(self.reply, body)
                message = {"content": said} if isinstance(said, str) else said
                entry.usage = REPLY_USAGE
            if reader.at_eof():
                # Whoever asked has been killed or lost patience; the bill stays.
                return False
            await _send(writer, 200, {}, json.dumps(completion(**message, usage=entry.usage)))
            entry.answered_s = time.monotonic()
            self.answers_sent += 1
            return True
        entry.reaction = reaction if isinstance(reaction, str) else str(reaction[0])
        if entry.reaction in BILLED_FAULTS:
            entry.usage = tokens(body, self.script.message(entry.question, body), self.script.image_tokens)
        return await self._fail(reaction, key, reader, writer)

    def _enter(self, body: dict[str, Any], key: str | None) -> Logged:
        question = Question.read(body)
        content = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()
        self._arrivals[content] += 1
        if len(self.log) >= self.most_requests:
            reaction = "503"
        elif self.script.key is not None and key != f"Bearer {self.script.key}":
            reaction = "401"
        elif body.get("response_format") and self.script.response_format in ("refused", "broken"):
            reaction = f"format-{self.script.response_format}"
        else:
            # A request that was turned away for its form or its key has not met the question's own faults.
            self._asked[content] += 1
            faults = self.script.faults_before(question)
            asked = self._asked[content]
            reaction = faults[asked - 1] if asked <= len(faults) else "answer"
        entry = Logged(question, content, self._arrivals[content], time.monotonic(), key is not None, reaction)
        self.log.append(entry)
        self.keys.append(key)
        if self.keep_bodies:
            self.requests.append(body)
        return entry

    async def _fail(
        self, reaction: Any, key: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if not isinstance(reaction, str):
            await _send(writer, *reaction)
            return True
        if reaction == "hang":
            await reader.read()
            return False
        if reaction == "drop":
            return False
        if reaction == "half-closed":
            writer.write(
                b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"id": "c1",'
            )
            writer.write_eof()
            await reader.read()
            return False
        retry_after = {"Retry-After": f"{self.script.retry_after_s:g}"}
        sent: dict[str, tuple[int, dict[str, str], str]] = {
            "429": (429, {}, _error("Rate limit reached", "rate_limit_exceeded")),
            "429-after": (429, retry_after, _error("Rate limit reached", "rate_limit_exceeded")),
            "500": (500, {}, "Internal Server Error"),
            "503": (503, {}, _error("The server is overloaded", None)),
            "torn-json": (200, {}, json.dumps(completion("Good"))[:70]),
            "no-choices": (200, {}, json.dumps({**completion("Good"), "choices": []})),
            "html": (200, {"Content-Type": "text/html"}, "<html>Be right back</html>"),
            "401": (
                401,
                {},
                _error(f"Incorrect API key provided: {(key or '').removeprefix('Bearer ')}.", "invalid_api_key"),
            ),
            "format-refused": (400, {}, _error("Invalid parameter: 'response_format' is not supported.", None)),
            "format-broken": (500, {}, "Internal Server Error"),
        }
        await _send(writer, *sent[reaction])
        return True


def sections(label: str) -> dict[str, str]:
    """The four sections of an answer that argues for a label."""
    return {
        "Text_analysis": f"The words of the post sound {label}.",
        "Image_analysis": "The picture shows a street by daylight.",
        "Conflict_resolution": "Text and image do not contradict one another.",
        "Final_conclusion": f"Taken together the attitude is {label}.",
    }


def written(named: dict[str, str], label: str, form: str = "plain") -> str:
    """An answer in one of the forms that models are known for."""
    if form == "json":
        return json.dumps({**named, "Prediction": label}, ensure_ascii=False)
    if form == "markdown":
        return (
            "".join(f"### {key}\n{text}\n\n" for key, text in named.items()) + f"**Prediction:** {label.capitalize()}\n"
        )
    lines = [f'"{key}": {json.dumps(text)}' for key, text in named.items()]
    text = "\n".join([*lines, f'"Prediction": {label}'])
    return f"```\n{text}\n```" if form == "fenced" else text


def completion(
    content: str | None, finish_reason: str = "stop", refusal: str | None = None, usage: tuple[int, int] = REPLY_USAGE
) -> dict[str, Any]:
    """A response of the chat completions API."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)},
    }


def text_of(turn: dict[str, Any]) -> str:
    """The text of a turn, its images left out."""
    content = turn["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def tokens(body: dict[str, Any], message: dict[str, Any], image_tokens: int) -> tuple[int, int]:
    """Prompt and completion tokens: one for three bytes, an image a fixed number; a cut answer has all it may have."""
    texts = sum(-(-len(text_of(turn).encode()) // 3) for turn in body["messages"])
    parts = [part for turn in body["messages"] if not isinstance(turn["content"], str) for part in turn["content"]]
    images = sum(part["type"] == "image_url" for part in parts)
    said = message.get("content") or message.get("refusal") or ""
    longest = body.get("max_completion_tokens") or body.get("max_tokens") or 10_000
    answer = longest if message.get("finish_reason") == "length" else min(longest, -(-len(said.encode()) // 3))
    return texts + image_tokens * images, answer


def _error(message: str, code: str | None) -> str:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})


async def _send(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], text: str) -> None:
    data = text.encode()
    fields = {"Content-Type": "application/json", **headers, "Content-Length": str(len(data))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode() + data)
    await writer.drain()


async def _serve(server: FaultServer, lifetime_s: float) -> None:
    async with await server.start():
        print(server.url, flush=True)
        await asyncio.sleep(lifetime_s)


def main() -> None:
    """Serve in this process until the lifetime is over."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("--script", default="{}", help="fields of Script, as JSON")
    arguments.add_argument("--lifetime", type=float, default=300.0, help="seconds")
    arguments.add_argument("--most-requests", type=int, default=100_000)
    options = arguments.parse_args()
    fields = {
        key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(options.script).items()
    }
    server = FaultServer(Script(**fields), most_requests=options.most_requests, keep_bodies=False)
    asyncio.run(_serve(server, options.lifetime))


if __name__ == "__main__":
    main()
