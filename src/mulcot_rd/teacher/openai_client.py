"""The teacher behind an OpenAI-compatible server: the OpenAI API, vLLM, and what else speaks it."""

import asyncio
import base64
import io
import logging
import os
import time
from collections import OrderedDict
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from mulcot_rd.images import load_image
from mulcot_rd.schema import Usage
from mulcot_rd.teacher.errors import RequestFailedError, TeacherError
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.provider import Answer, Question
from mulcot_rd.teacher.transport import RetryLayer, TransientFaultError, parse_retry_after

logger = logging.getLogger(__name__)

JPEG_QUALITY = 90
# A post's retries and stage two follow soon after its first request; 2,048 images of 280 pixels are some 50 MB.
CACHED_IMAGES = 2048
_KEY_HELP = "set OPENAI_API_KEY, or openai.api_key in conf/local/credentials.yml"


class OpenAITeacher:
    """A :class:`~mulcot_rd.teacher.provider.Provider` over HTTP, at most ``max_concurrency`` requests at once.

    The SDK's own retries are off; :class:`~mulcot_rd.teacher.transport.RetryLayer` is the only one.
    """

    name = "openai"

    def __init__(self, parameters: TeacherParameters, api_key: str | None) -> None:
        """Open a client.

        Args:
            parameters: Server, model, sampling and limits.
            api_key: The key, or ``None`` to take it from ``OPENAI_API_KEY``. With ``base_url`` it is optional.

        Raises:
            TeacherError: If the OpenAI API itself is asked without a key.
        """
        key = api_key or os.environ.get("OPENAI_API_KEY")
        if not key and parameters.base_url is None:
            raise TeacherError(
                f"teacher.provider=openai needs an API key: {_KEY_HELP}, or point teacher.base_url at your own server"
            )
        self._key = key
        self._parameters = parameters
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=parameters.base_url or "https://api.openai.com/v1",
            max_retries=0,
            timeout=parameters.timeout_s,
        )
        self._slots = asyncio.Semaphore(parameters.max_concurrency)
        self._images = ImageEncoder(parameters.image_size)
        self.transport = RetryLayer(parameters.max_request_retries, parameters.backoff_s)
        # The HTTP library reports every single request at INFO, which drowns the progress bar.
        logging.getLogger("httpx2").setLevel(logging.WARNING)

    async def answer(self, question: Question) -> Answer:
        """Send one request, repeating it after transport faults.

        Raises:
            ImageError: If the question's image is missing or broken.
            RequestFailedError: If this request is refused or its repeats are used up.
            TeacherError: If key, model or address are wrong, the quota is spent, or the server is gone.
        """
        image = None if question.image is None else await self._images.data_uri(question.image)
        messages = _chat_messages(question, image)
        async with self._slots:
            return await self.transport.call(lambda: self._send(messages))

    async def close(self) -> None:
        """Close the connections, and say which transport faults were waited out."""
        if self.transport.faults:
            counts = ", ".join(f"{reason} ({count})" for reason, count in self.transport.faults.items())
            logger.info("transport faults: %s", counts)
        await self._client.close()

    async def _send(self, messages: list[dict[str, Any]]) -> Answer:
        parameters = self._parameters
        started = time.perf_counter()
        try:
            # The SDK's timeout is per read: a server that sends a byte now and then would never run into it.
            async with asyncio.timeout(parameters.timeout_s):
                response = await self._client.chat.completions.create(
                    model=parameters.model,
                    messages=messages,  # type: ignore[arg-type]
                    temperature=parameters.temperature,
                    max_tokens=parameters.max_tokens,
                )
        except (TimeoutError, openai.APITimeoutError):
            raise TransientFaultError(f"no answer within {parameters.timeout_s:g} s") from None
        except openai.APIConnectionError:
            raise TransientFaultError("the connection failed") from None
        except openai.APIStatusError as error:
            raise self._status_fault(error) from None
        except (openai.APIError, ValueError):
            raise TransientFaultError("the server's answer is not JSON") from None
        if not isinstance(response, ChatCompletion) or not response.choices:
            raise TransientFaultError("the server's answer has no choices")
        choice = response.choices[0]
        usage = response.usage
        return Answer(
            text=choice.message.content or choice.message.refusal or "",
            model=response.model or parameters.model,
            usage=Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
            if usage is not None
            else Usage(),
            finish_reason=choice.finish_reason or "stop",
            latency_s=time.perf_counter() - started,
        )

    def _status_fault(self, error: openai.APIStatusError) -> Exception:
        """What an HTTP status means: wait and repeat, this request is lost, or the whole run is."""
        status, said = error.status_code, self._without_key(_message(error))
        if status == 429 and error.code == "insufficient_quota":
            return TeacherError(f"the account's quota is spent ({said}); top it up and run the same command again")
        if status in (408, 409, 429) or status >= 500:
            return TransientFaultError(f"the server said {status}", parse_retry_after(error.response.headers))
        if status in (401, 403):
            return TeacherError(f"the server refuses the API key with {status} ({said}): {_KEY_HELP}")
        if status == 404:
            return TeacherError(
                f"the server at {self._client.base_url} knows no model {self._parameters.model!r} or no such address "
                f"({said}): check teacher.model and teacher.base_url"
            )
        # What is left (400, 413, 422: too long, filtered) concerns this request; others may pass.
        return RequestFailedError(f"the server refused the request with {status} ({said})")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


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
    buffer = io.BytesIO()
    load_image(path, size).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _chat_messages(question: Question, image: str | None) -> list[dict[str, Any]]:
    """The conversation in the API's form; the image comes before the prompt, as in the trained models."""
    turns: list[dict[str, Any]] = [{"role": message.role, "content": message.text} for message in question.messages]
    if image is None:
        return turns
    # "low" is a fixed 512-pixel view: all that an image of the method's size has, at the lowest price.
    shown = {"type": "image_url", "image_url": {"url": image, "detail": "low"}}
    turns[0]["content"] = [shown, {"type": "text", "text": turns[0]["content"]}]
    return turns


def _message(error: openai.APIStatusError) -> str:
    """What the server said, in one line of at most 200 characters."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(said or error.message).split())[:200]
