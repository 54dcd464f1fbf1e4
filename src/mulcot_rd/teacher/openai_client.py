"""The teacher behind an OpenAI-compatible server: the OpenAI API, vLLM, and what else speaks it.

The client is the ``openai`` package's, on its aiohttp transport, and it is handed finished bodies: forming and reading
requests through the SDK's own types costs four times the processor time of everything else.
"""

import asyncio
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import aiohttp
import httpx2
import openai
import orjson
from pydantic import ValidationError

from mulcot_rd.credentials import OPENAI_URL, is_local, is_openai, password_of, server_key, without_password
from mulcot_rd.images import data_uri, load_image
from mulcot_rd.schema import Usage
from mulcot_rd.teacher.budget import Budget, Reservation
from mulcot_rd.teacher.capabilities import Capabilities, FormRefusedError
from mulcot_rd.teacher.errors import RequestFailedError, RequestRefusedError, TeacherError
from mulcot_rd.teacher.ledger import question_key
from mulcot_rd.teacher.limits import Gate
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.prices import DETAIL, Pricing
from mulcot_rd.teacher.provider import Answer, Question
from mulcot_rd.teacher.transport import RetryLayer, TransientFaultError, parse_retry_after

logger = logging.getLogger(__name__)

T = TypeVar("T")

JPEG_QUALITY = 90
# A post's retries and stage two follow soon after its first request; 2,048 images of 280 pixels are some 50 MB.
CACHED_IMAGES = 2048
_KEY_HELP = "set OPENAI_API_KEY, or openai.api_key in conf/local/credentials.yml"
# What aiohttp raises before anything of a request is sent: no route, name, port, TLS or proxy. A connection that was
# lost later is its mere base, ClientOSError; both reach the SDK as the same ConnectTimeout.
_NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)
CONNECT_TIMEOUT_S = 30.0
_PROXY_HELP = "the proxy asks for a name and password: give them in {}_proxy, as http://NAME:PASSWORD@HOST:PORT"
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached"}
# Statuses besides 5xx that heal; of a server that may have gone on working.
_HEALING = (408, 409, 425, 429)
_MAYBE_BILLED = (408, 504, 524)
# Words of a 403 that is about one request's content and not about the key.
_MODERATED = ("moderation", "flagged", "content_filter", "content policy")


@dataclass
class _Asked:
    """A question on its way: what is sent of it, and what is set aside for it."""

    question: Question
    image: str | None
    key: str
    reservation: Reservation | None = None


class OpenAITeacher:
    """A :class:`~mulcot_rd.teacher.provider.Provider` over HTTP.

    The SDK's own retries are off; :class:`~mulcot_rd.teacher.transport.RetryLayer` is the only one. A request holds a
    slot while it is sent and answered, and none while it waits to be repeated.

    Attributes:
        client: The SDK's client.
        base_url: The server's address, without a password.
        gate: Requests at once, and the server's pauses.
        transport: The retry layer.
        budget: What was spent and may be.
    """

    name = "openai"

    def __init__(
        self, parameters: TeacherParameters, api_key: str | None, capabilities: Capabilities, budget: Budget
    ) -> None:
        """Open a client.

        Args:
            parameters: Server, model, sampling and limits.
            api_key: This server's key from the credentials, or ``None``; see
                :func:`~mulcot_rd.credentials.server_key` for where it is looked for then. Only OpenAI needs one.
            capabilities: What the server is known to take.
            budget: Where every request is charged.

        Raises:
            TeacherError: If the OpenAI API itself is asked without a key, or the key can't be sent.
        """
        try:
            key = server_key(parameters.base_url, api_key, parameters.api_key_env)
        except ValueError as error:
            raise TeacherError(str(error)) from None
        if key is None and is_openai(parameters.base_url):
            raise TeacherError(
                f"teacher.provider=openai needs an API key: {_KEY_HELP}, or point teacher.base_url at your own server"
            )
        if not is_local(parameters.base_url):
            _refuse_other_proxies(urlsplit(parameters.base_url or OPENAI_URL).scheme)
        password = password_of(parameters.base_url)
        if key and password:
            raise TeacherError("base_url has a password and the server an API key, and one request can't carry both")
        self._secret = key or password
        self.base_url = without_password(parameters.base_url or OPENAI_URL)
        self._scheme = urlsplit(self.base_url).scheme
        self._key_help = _KEY_HELP
        if not is_openai(parameters.base_url):
            self._key_help = (
                f"give this server's key under servers, {self.base_url}, api_key in conf/local/credentials.yml, "
                "or name its environment variable by api_key_env"
            )
        self._parameters = parameters
        connections = httpx2.Limits(
            max_connections=parameters.max_concurrency, max_keepalive_connections=parameters.max_concurrency
        )
        self.client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=parameters.base_url or OPENAI_URL,
            max_retries=0,
            # None per read: a server that sends a byte now and then would never run into one. The one for connecting
            # tells what was never sent.
            timeout=httpx2.Timeout(None, connect=min(CONNECT_TIMEOUT_S, parameters.timeout_s / 2)),
            http_client=openai.DefaultAioHttpClient(
                limits=connections,
                trust_env=not is_local(parameters.base_url),
                event_hooks={} if key else {"request": [_leave_key_out]},
            ),
        )
        self.gate = Gate(parameters.max_concurrency)
        self.transport = RetryLayer(parameters.max_request_retries, parameters.backoff_s, capabilities.answered)
        self.budget = budget
        self._capabilities = capabilities
        self._pricing = Pricing(parameters)
        self._images = ImageEncoder(parameters.image_size)
        self._open: set[asyncio.Task[Any]] = set()
        self._sending: set[asyncio.Task[Any]] = set()
        self._draining = False
        # The HTTP library reports every single request at INFO, which drowns the progress bar.
        logging.getLogger("httpx2").setLevel(logging.WARNING)

    async def answer(self, question: Question) -> Answer:
        """Send one question, repeating it after transport faults.

        Raises:
            ImageError: If the question's image is missing or broken.
            RequestFailedError: If this question is refused or its repeats are used up.
            TeacherError: If key, model or address are wrong, the quota or budget is spent, or the server is gone.
        """
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        asked: _Asked | None = None
        try:
            image = await self._image(question)
            asked = _Asked(question, image, question_key(question, self._parameters))
            return await self._ask(asked)
        finally:
            if asked is not None and asked.reservation is not None:
                asked.reservation.unbilled()
            self._open.discard(task)

    async def drain(self) -> None:
        """Send nothing more, and wait for what is on its way: a second interruption gives that up."""
        self._draining = True
        if self._sending:
            logger.info(
                "waiting up to %g s for %d answer(s) that are on their way, to keep them; interrupt again to give "
                "them up",
                self._parameters.timeout_s,
                len(self._sending),
            )
        for task in self._open - self._sending:
            task.cancel()
        while self._open:
            await asyncio.wait(self._open)

    async def close(self) -> None:
        """Close the connections, and say which transport faults were waited out."""
        if self.transport.faults:
            counts = ", ".join(f"{reason} ({count})" for reason, count in self.transport.faults.items())
            logger.info("transport faults: %s", counts)
        await self.client.close()
        await self.budget.close()

    async def call(self, send: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T:
        """Any other call of the SDK (files, batches) through the retry layer, free of charge.

        Args:
            send: The call.
            timeout_s: Its longest time, in seconds, or ``None`` for ``teacher.timeout_s``.

        Raises:
            RequestFailedError: If it failed for good or its repeats are used up.
            TeacherError: If no call can succeed.
        """

        async def attempt() -> T:
            try:
                async with asyncio.timeout(timeout_s or self._parameters.timeout_s):
                    return await send()
            except (TimeoutError, openai.APIError, aiohttp.ClientError, ValueError) as error:
                raise self._fault(error) from None

        return await self.transport.call(attempt)

    async def body(self, question: Question) -> dict[str, Any]:
        """The request that asks a question, as the API's JSON object.

        Raises:
            ImageError: If the question's image is missing or broken.
        """
        return self._body(question, await self._image(question))

    def read(self, completion: Any, latency_s: float) -> Answer:
        """The answer in a completion, the API's JSON object.

        Raises:
            TransientFaultError: If there is none, but may well be the next time.
            TeacherError: If the server reports an error in place of one and has never answered.
            RequestRefusedError: The same, of a server that has.
        """
        if isinstance(completion, dict) and completion.get("error") and not completion.get("choices"):
            raise self._reported(completion)
        choices = completion.get("choices") if isinstance(completion, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise TransientFaultError("the server's answer has no choices", maybe_billed=True)
        content, refusal = _text_of(message), message.get("refusal")
        counted = completion.get("usage")
        counted = counted if isinstance(counted, dict) else {}
        try:
            tokens = [counted.get("prompt_tokens"), counted.get("completion_tokens")]
            usage = Usage(prompt_tokens=tokens[0] or 0, completion_tokens=tokens[1] or 0)
            return Answer(
                text=content or refusal or "",
                model=completion.get("model") or self._parameters.model,
                usage=usage,
                finish_reason="refusal" if refusal and not content else choice.get("finish_reason") or "stop",
                latency_s=latency_s,
                cost_usd=self._pricing.cost_usd(usage) if tokens[0] and tokens[1] is not None else None,
            )
        except ValidationError:
            raise TransientFaultError("the server's answer is no chat completion", maybe_billed=True) from None

    def _reported(self, body: dict[str, Any]) -> Exception:
        """What an error means that came with status 200."""
        error = _error_of(body)
        if isinstance(error.get("code"), int) and error["code"] >= 400:
            return self.fault_of_response(error["code"], body)
        said = f"the server at {self.base_url} answered with an error ({self.said(_reason(error))})"
        if self.transport.answered:
            return RequestRefusedError(said)
        return TeacherError(f"{said}: check teacher.base_url, which most often ends in /v1, and teacher.model")

    def form_refused(self, sent: dict[str, Any], status: int, body: Any) -> bool:
        """Whether the server refused a request for its form alone, so that the next form is to be tried.

        Args:
            sent: The request's body; its messages are not looked at.
            status: The HTTP status.
            body: What the server answered.
        """
        return self._capabilities.refused(sent, status, _error_of(body))

    def form_taken(self, sent: dict[str, Any], schema: dict[str, Any] | None) -> None:
        """A request of this form was answered."""
        self._capabilities.taken(sent, schema)

    def fault_of_response(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Exception:
        """What an HTTP status other than 200 means: wait and repeat, this request is lost, or the whole run is.

        Args:
            status: The status.
            body: The response's JSON, or its text.
            headers: The response's headers, where there are any.
        """
        error = _error_of(body)
        said = self.said(_reason(error))
        fatal = self._fatal(status, error, said)
        if fatal is not None:
            return fatal
        too_large = status == 429 and "request too large" in said.lower()
        if (status in _HEALING or status >= 500) and not too_large:
            return TransientFaultError(
                f"the server said {status}",
                parse_retry_after(headers or {}),
                maybe_billed=status in _MAYBE_BILLED,
            )
        # What is left (400, 413, 422: too long, filtered) concerns this request; others may pass.
        return RequestRefusedError(f"the server refused the request with {status} ({said})")

    def _fatal(self, status: int, error: dict[str, Any], said: str) -> TeacherError | None:
        """Why no request can succeed any more, if that is what a status means."""
        if status == 402 or (status == 429 and {error.get("code"), error.get("type")} & _NO_QUOTA):
            return TeacherError(f"the account's quota is spent ({said}); top it up and run the same command again")
        # OpenRouter refuses a moderated input with 403.
        moderated = status == 403 and any(word in said.lower() for word in _MODERATED)
        if status == 407:
            return TeacherError(_PROXY_HELP.format(self._scheme))
        if status in (401, 403) and not moderated:
            return TeacherError(f"the server refuses the API key with {status} ({said}): {self._key_help}")
        if status == 404:
            return TeacherError(
                f"the server at {self.base_url} knows no model {self._parameters.model!r} or no such address "
                f"({said}): check teacher.model and teacher.base_url"
            )
        if status == 400 and error.get("param") == "temperature":
            return TeacherError(
                f"the model refuses teacher.temperature={self._parameters.temperature:g} ({said}): set another"
            )
        return None

    async def _ask(self, asked: _Asked) -> Answer:
        while True:
            try:
                return await self.transport.call(lambda: self._attempt(asked))
            except FormRefusedError:
                logger.info("the server takes no request of this form; the next one is tried")

    async def _attempt(self, asked: _Asked) -> Answer:
        """Send once, and see to it that the budget learns what came of it."""
        self._stop_if_draining()
        if asked.reservation is None:
            asked.reservation = await self.budget.reserve(asked.key, asked.question)
        async with self.gate.admit():
            self._stop_if_draining()
            answer = await self._exchange(asked)
        answer = asked.reservation.charge(answer)
        asked.reservation = None
        return answer

    async def _exchange(self, asked: _Asked) -> Answer:
        task = asyncio.current_task()
        assert task is not None
        assert asked.reservation is not None
        self._sending.add(task)
        try:
            return await self._send(asked)
        except TransientFaultError as fault:
            if fault.retry_after_s is not None:
                self.gate.pause(fault.retry_after_s)
            if fault.maybe_billed:
                asked.reservation.lost()
                asked.reservation = None
            if self._draining:
                raise RequestFailedError(f"{fault.reason} while the run was being stopped") from None
            raise
        except asyncio.CancelledError:
            asked.reservation.lost()
            asked.reservation = None
            raise
        finally:
            self._sending.discard(task)

    async def _send(self, asked: _Asked) -> Answer:
        body = self._body(asked.question, asked.image)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._parameters.timeout_s):
                response = await self.client.post(
                    "/chat/completions",
                    content=orjson.dumps(body),
                    cast_to=httpx2.Response,
                    options={"headers": {"Content-Type": "application/json"}},
                )
            completion = orjson.loads(response.content)
        except openai.APIStatusError as error:
            if self._capabilities.refused(body, error.status_code, _error_of(error.body)):
                raise FormRefusedError from None
            raise self._fault(error) from None
        except (TimeoutError, openai.APIError, aiohttp.ClientError, ValueError) as error:
            raise self._fault(error) from None
        answer = self.read(completion, time.perf_counter() - started)
        self._capabilities.taken(body, asked.question.schema)
        return answer

    def _fault(self, error: Exception) -> Exception:
        """What an exception of the SDK means."""
        if isinstance(error, openai.APIStatusError):
            return self.fault_of_response(error.status_code, error.body, error.response.headers)
        if isinstance(error, TimeoutError):
            return TransientFaultError(f"no answer within {self._parameters.timeout_s:g} s", maybe_billed=True)
        if isinstance(error, openai.APIConnectionError):
            # The SDK wraps its transport's exception, and that wraps aiohttp's.
            reason = error.__cause__ and error.__cause__.__cause__
            if isinstance(reason, _NEVER_SENT):
                return self._no_connection(reason)
            return TransientFaultError(f"the connection to {self.base_url} failed", maybe_billed=True)
        if isinstance(error, aiohttp.ClientResponseError):
            return TransientFaultError("the server's answer is not HTTP", maybe_billed=True)
        return TransientFaultError("the server's answer is not JSON", maybe_billed=True)

    def _no_connection(self, reason: BaseException) -> Exception:
        """What it means that no connection was made: a name or a certificate does not mend by asking again."""
        if isinstance(reason, aiohttp.ClientHttpProxyError) and reason.status == 407:
            return TeacherError(_PROXY_HELP.format(self._scheme))
        said = f"no connection to {self.base_url} ({_why(reason)})"
        if isinstance(reason, aiohttp.ClientConnectorDNSError):
            # A name that has led to a server in this run is lost for a while.
            lasting = reason.os_error.errno == socket.EAI_NONAME and not self.transport.answered
        else:
            lasting = isinstance(reason, aiohttp.ClientSSLError | aiohttp.InvalidURL)
        return TeacherError(f"{said}: check teacher.base_url") if lasting else TransientFaultError(said)

    async def _image(self, question: Question) -> str | None:
        return None if question.image is None else await self._images.data_uri(question.image)

    def _body(self, question: Question, image: str | None) -> dict[str, Any]:
        return {
            "model": self._parameters.model,
            "messages": _chat_messages(question, image),
            "temperature": self._parameters.temperature,
            **self._capabilities.fields(question.schema, question.role, self._longest(question)),
        }

    def _longest(self, question: Question) -> int:
        return question.max_tokens or self._parameters.max_tokens

    def _stop_if_draining(self) -> None:
        if self._draining:
            raise RequestFailedError("the run is being stopped")

    def masked(self, content: bytes) -> bytes:
        """A file's content without the key or password."""
        return content.replace(self._secret.encode(), b"[key]") if self._secret else content

    def said(self, reason: str) -> str:
        """What the server said, in one line of at most 200 characters, without the key or password."""
        said = " ".join(reason.split())
        return (said.replace(self._secret, "[key]") if self._secret else said)[:200]


class ImageEncoder:
    """Images as data URIs: JPEG at the configured size, encoded once however many requests ask for it."""

    def __init__(self, size: int) -> None:
        """``size`` is the side of the square in pixels."""
        self._size = size
        self._encoded: OrderedDict[str, asyncio.Task[str]] = OrderedDict()

    async def data_uri(self, path: str) -> str:
        """The image at ``path``; raises ``ImageError`` if it is missing or broken."""
        task = self._encoded.get(path)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(encode_image, path, self._size))
            self._encoded[path] = task
            if len(self._encoded) > CACHED_IMAGES:
                self._encoded.popitem(last=False)
        else:
            self._encoded.move_to_end(path)
        return await asyncio.shield(task)


def encode_image(path: str, size: int) -> str:
    """A JPEG data URI of ``size`` x ``size`` pixels."""
    return data_uri(load_image(path, size), JPEG_QUALITY)


def _chat_messages(question: Question, image: str | None) -> list[dict[str, Any]]:
    """The conversation in the API's form; the image comes before the prompt, as in the trained models."""
    turns: list[dict[str, Any]] = [{"role": message.role, "content": message.text} for message in question.messages]
    if image is not None:
        # "low" is a fixed 512-pixel view: all that an image of the method's size has, at the lowest price.
        shown = {"type": "image_url", "image_url": {"url": image, "detail": DETAIL}}
        turns[0]["content"] = [shown, {"type": "text", "text": turns[0]["content"]}]
    return turns


async def _leave_key_out(request: httpx2.Request) -> None:
    """The SDK can't be without a key; a server that has none is sent none."""
    del request.headers["Authorization"]


def _refuse_other_proxies(scheme: str) -> None:
    """Say at once that a proxy of the environment is none that the client can use."""
    proxies = getproxies()
    for name in (scheme, "all"):
        kind = urlsplit(proxies.get(name, "")).scheme
        if kind not in ("", "http", "https"):
            raise TeacherError(
                f"{name}_proxy names a {kind} proxy, and the teacher's client goes through HTTP proxies alone: set "
                "https_proxy to one, or unset the variable"
            )


def _text_of(message: dict[str, Any]) -> str:
    """An answer's text: its content, whole or in parts, or where that is empty what the server took for thoughts."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str))
    if content or message.get("refusal"):
        return content or ""
    return message.get("reasoning_content") or message.get("reasoning") or ""


def _why(reason: BaseException) -> str:
    """Why no connection was made, without an address that may hold a proxy's password."""
    if isinstance(reason, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses it with {reason.status}"
    if isinstance(reason, aiohttp.ConnectionTimeoutError):
        return "it takes too long"
    if isinstance(reason, aiohttp.ClientConnectorCertificateError):
        return f"TLS: {reason.certificate_error}"
    if isinstance(reason, aiohttp.ClientConnectorError):
        said = str(reason.os_error.strerror or reason.os_error)
        return f"the proxy: {said}" if isinstance(reason, aiohttp.ClientProxyConnectionError) else said
    return "the address is not valid"


def _error_of(body: Any) -> dict[str, Any]:
    """The error in a response, with a ``message``, whatever form the server gives it."""
    error = body.get("error", body) if isinstance(body, dict) else body
    return error if isinstance(error, dict) else {"message": error}


def _reason(error: dict[str, Any]) -> str:
    # FastAPI's servers say why under "detail".
    return str(error.get("message") or error.get("detail") or error.get("code") or "no reason given")
