"""The teacher behind an OpenAI-compatible server: the OpenAI API, vLLM and others."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, TypeVar

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError

from mulcot_rd.credentials import OPENAI_URL, is_local, is_openai, password_of, without_password
from mulcot_rd.images import data_uri, load_image
from mulcot_rd.reasoning import LONE_SURROGATE, THOUGHTS_BEGIN
from mulcot_rd.schema import Usage
from mulcot_rd.teacher.budget import Budget
from mulcot_rd.teacher.capabilities import Capabilities
from mulcot_rd.teacher.errors import TeacherError, TransientFaultError
from mulcot_rd.teacher.ledger import Ledger
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.prices import Pricing
from mulcot_rd.teacher.questions import Answer, Question
from mulcot_rd.teacher.server_errors import ServerErrors, error_in
from mulcot_rd.teacher.transport import Transport

logger = logging.getLogger(__name__)

T = TypeVar("T")

JPEG_QUALITY = 90
# A post's retries and stage two follow soon after its first request; 2,048 images of 280 pixels are some 50 MB.
CACHED_IMAGES = 2048
CONNECT_TIMEOUT_S = 30.0
# Other servers' words for the API's.
FINISH_REASONS = {
    "max_tokens": "length",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos_token": "stop",
    "safety": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
}
# The server gave up in the middle; a gateway tells of its provider's failure so, with status 200.
GAVE_UP = ("error", "abort", "network_error", "insufficient_system_resource")
# The last two: the body of a response with status 200 that is no JSON.
SDK_ERRORS = (TimeoutError, openai.APIError, json.JSONDecodeError, UnicodeDecodeError)


class OpenAITeacher:
    """Sends questions to a server and reads its answers.

    The SDK's own retries are off, since they tell neither the budget nor other requests of a fault;
    :class:`~mulcot_rd.teacher.transport.Transport` repeats requests. ``base_url`` is without a password.
    """

    def __init__(self, parameters: TeacherParameters, api_key: str | None, ledger: Ledger) -> None:
        """Open a client; the budget counts the ledger's answers, and the capabilities are kept beside it.

        Raises:
            TeacherError: If OpenAI is asked without a key, the key can't be sent, or the proxy can't be used.
        """
        key = parameters.key(api_key)
        address = parameters.base_url or OPENAI_URL
        password = password_of(address)
        if key and password:
            raise TeacherError("base_url has a password and the server an API key, and one request can't carry both")
        self.base_url = without_password(address)
        self.errors = ServerErrors(parameters, self.base_url, key or password)
        self.client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=address,
            max_retries=0,
            # None per read: a server that sends a byte now and then would never run into one.
            timeout=httpx2.Timeout(None, connect=min(CONNECT_TIMEOUT_S, parameters.timeout_s / 2)),
            http_client=openai.DefaultAsyncHttpxClient(
                trust_env=not is_local(address),
                limits=httpx2.Limits(max_keepalive_connections=parameters.max_concurrency),
                event_hooks={"request": [] if is_openai(address) else [partial(_own_headers, key, password)]},
            ),
        )
        self.capabilities = Capabilities(
            ledger.path.with_suffix(".server.json"), f"{self.base_url} {parameters.model}", parameters.structured_output
        )
        self.transport = Transport(parameters, answered=self.capabilities.answered)
        self.budget = Budget(parameters.budget_usd, Pricing(parameters), ledger)
        self._parameters = parameters
        self._image = lru_cache(CACHED_IMAGES)(
            lambda path, lossless: data_uri(load_image(path, parameters.image_size), None if lossless else JPEG_QUALITY)
        )
        # At INFO the HTTP library reports every request, which drowns the progress bar; at DEBUG every response header,
        # where a server may repeat the key.
        for library in ("httpx2", "httpcore2"):
            logging.getLogger(library).setLevel(logging.WARNING)

    @property
    def status(self) -> str:
        """Money spent and requests in flight, for a progress bar."""
        in_flight = f"{self.transport.in_flight} of {self._parameters.max_concurrency} in flight"
        return f"{self.budget.spent_usd:.4f} USD, {in_flight}" if self.budget.pricing.priced else in_flight

    async def answer(self, key: str, question: Question) -> Answer:
        """Send one question, whose ledger key is ``key``, again after transport faults, and charge the budget.

        Raises:
            ImageError: If the question's image is missing or broken.
            RequestFailedError: If this question is refused or its repeats are used up.
            TeacherError: If key, model or address are wrong, the quota or budget is spent, or the server is gone.
        """
        if question.image is not None:
            # Before a slot is taken: the next image is encoded while others wait for their answers.
            await asyncio.to_thread(self._image, question.image, question.lossless)

        async def attempt() -> Answer:
            reservation = await self.budget.reserve(key, question)
            try:
                # The budget may have made it wait.
                self.transport.check_open()
                answer = await self._send(question)
            except BaseException as error:
                reservation.failed(error)
                raise
            return reservation.charge(answer)

        return await self.transport.call(attempt)

    async def _send(self, question: Question) -> Answer:
        """Send a question once in each form, until the server takes one."""
        while True:
            body = await self.body(question)
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._parameters.timeout_s):
                    completion = await self.client.post("/chat/completions", body=body, cast_to=object)
            except SDK_ERRORS as error:
                if isinstance(error, openai.APIStatusError) and self.capabilities.refused(
                    body, error.status_code, error_in(error.body)
                ):
                    logger.info("the server takes no request of this form; the next one is tried")
                    continue
                raise self.errors.of_exception(error, answered=self.transport.answered) from None
            answer = self.read(completion, time.perf_counter() - started)
            self.capabilities.taken(body, question.schema)
            return answer

    async def call(self, send: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T:
        """Any other call of the SDK (files, batches), again after transport faults, free of charge.

        It may take ``timeout_s`` seconds, or ``teacher.timeout_s`` without it.

        Raises:
            RequestFailedError: If it failed for good or its repeats are used up.
            TeacherError: If no call can succeed.
        """

        async def attempt() -> T:
            try:
                async with asyncio.timeout(timeout_s or self._parameters.timeout_s):
                    return await send()
            except SDK_ERRORS as error:
                raise self.errors.of_exception(error, answered=self.transport.answered) from None

        return await self.transport.call(attempt)

    async def drain(self) -> None:
        """Send nothing more; what is on its way goes on, and a second interruption gives it up."""
        self.transport.close()
        if self.transport.in_flight:
            logger.info(
                "waiting up to %g s for %d answer(s) that are on their way, to keep them; interrupt again to give "
                "them up",
                self._parameters.timeout_s,
                self.transport.in_flight,
            )

    async def close(self) -> None:
        """Close connections and journal, and say which transport faults were waited out."""
        if self.transport.faults:
            counts = ", ".join(f"{reason} ({count})" for reason, count in self.transport.faults.items())
            logger.info("transport faults: %s", counts)
        await self.client.close()
        await self.budget.close()

    async def body(self, question: Question) -> dict[str, Any]:
        """The request that asks a question, as the API's JSON object.

        Raises:
            ImageError: If the question's image is missing or broken.
        """
        turns: list[dict[str, Any]] = [{"role": turn.role, "content": turn.text} for turn in question.messages]
        if question.image is not None:
            image = await asyncio.to_thread(self._image, question.image, question.lossless)
            # The image comes before the prompt, as in the trained models. "low" is a fixed 512-pixel view: all that an
            # image of the method's size has, at the lowest price.
            part = {"type": "image_url", "image_url": {"url": image, "detail": "low"}}
            turns[0]["content"] = [part, {"type": "text", "text": turns[0]["content"]}]
        longest = question.max_tokens or self._parameters.max_tokens
        return {
            "model": self._parameters.model,
            "messages": turns,
            "temperature": self._parameters.temperature,
            **(question.sampling or {}),
            **self.capabilities.fields(question.schema, question.role, longest),
        }

    def read(self, completion: Any, latency_s: float) -> Answer:
        """The answer in a completion, the API's JSON object.

        Raises:
            TransientFaultError: If there is none, but may well be the next time.
            TeacherError: If the server reports an error in place of one and has never answered.
            RequestRefusedError: The same, of a server that has.
        """
        if isinstance(completion, dict) and completion.get("error") and not completion.get("choices"):
            raise self.errors.of_answer(completion, answered=self.transport.answered)
        try:
            whole = _Completion.model_validate(completion)
        except ValidationError:
            raise TransientFaultError("the server's answer is no chat completion", maybe_billed=True) from None
        choice, tokens = whole.choices[0], whole.usage or _Tokens()
        ended = (choice.finish_reason or "stop").lower()
        if choice.error or ended in GAVE_UP:
            raise TransientFaultError("the server broke its answer off", maybe_billed=True)
        ended = FINISH_REASONS.get(ended, ended)
        text, refusal = choice.message.text, choice.message.refusal
        if text and ended == "length" and not choice.message.said:
            # Thoughts that were cut: a label in them is a draft.
            text = f"{THOUGHTS_BEGIN}{text}"
        usage = Usage(prompt_tokens=tokens.prompt_tokens or 0, completion_tokens=tokens.written)
        counted = tokens.prompt_tokens and tokens.completion_tokens is not None
        return Answer(
            text=LONE_SURROGATE.sub("\ufffd", text or refusal or ""),
            model=LONE_SURROGATE.sub("\ufffd", whole.model or self._parameters.model),
            usage=usage,
            finish_reason="refusal" if refusal and not text else ended,
            latency_s=latency_s,
            cost_usd=self.budget.pricing.usd(usage.prompt_tokens, usage.completion_tokens) if counted else None,
        )


class _Part(BaseModel):
    text: str | None = None


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    # Where servers put what they take for thoughts, sometimes the whole answer.
    reasoning_content: str | None = None
    reasoning: str | None = None

    @property
    def said(self) -> str:
        parts = self.content if isinstance(self.content, list) else [_Part(text=self.content)]
        return "".join(part.text or "" for part in parts)

    @property
    def text(self) -> str:
        return self.said or ("" if self.refusal else self.reasoning_content or self.reasoning or "")


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    error: Any = None


class _Tokens(BaseModel):
    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)
    total_tokens: int | None = Field(None, ge=0)

    @property
    def written(self) -> int:
        """Tokens that are charged as output; some servers count those of thoughts in the total alone."""
        return max(self.completion_tokens or 0, (self.total_tokens or 0) - (self.prompt_tokens or 0))


class _Completion(BaseModel):
    """What is read of a chat completion; the SDK's own type asks for fields that not every server sends."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Tokens | None = None
    model: str | None = None


async def _own_headers(key: str | None, password: str | None, request: httpx2.Request) -> None:
    """Send a server that is not OpenAI's own its own key or none; the SDK takes more for it from the environment."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    for name in ("OpenAI-Organization", "OpenAI-Project", *(line.partition(":")[0].strip() for line in lines)):
        request.headers.pop(name, None)
    if key:
        request.headers["Authorization"] = f"Bearer {key}"
    elif not password:
        request.headers.pop("Authorization", None)
