"""What a server understands beyond the common ground of the chat completions API, found out once and remembered.

Servers differ in two things. The answer's format: a JSON schema may be taken as ``json_schema`` (OpenAI, vLLM), as
``json_object`` with a schema (llama.cpp), or not at all; one that passes it over answers in plain text, which the one
parser reads as well. And the name of the length limit: ``max_tokens``, or ``max_completion_tokens`` (OpenAI's newer
models refuse the former, llama.cpp passes over the latter). As long as this is not known, one request at a time is
sent, so that a refusal is met once.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mulcot_rd.files import write_json
from mulcot_rd.schema import Record

Format = Literal["json_schema", "json_object", "plain"]
_FORMATS: tuple[Format, ...] = ("json_schema", "json_object", "plain")
# Words of a refusal that is about the format.
_ABOUT_FORMAT = ("response_format", "json_schema", "json_object", "structured output", "guided", "grammar")
# Words of one that is about this one request.
_ABOUT_CONTENT = ("content_filter", "content management policy", "content_policy", "context length", "context_length")
# A server that breaks over a schema breaks every time; one that broke by chance does not.
FAILURES_BLAMED_ON_FORMAT = 2


class FormRefusedError(Exception):
    """The server does not take a request in this form; it is sent again in the next."""


class Spoken(Record):
    """What one model of one server is known to take; ``None`` where no answer has shown it yet."""

    format: Format | None = None
    limit: Literal["max_tokens", "max_completion_tokens"] | None = None


class Dialect:
    """The form of requests to one model of one server.

    Attributes:
        structured: Whether formats are sent at all (``teacher.structured_output``).
    """

    def __init__(self, path: Path | None, server: str, *, structured: bool) -> None:
        """Recall what earlier runs found out.

        Args:
            path: JSON file of what is known, by server; ``None`` remembers nothing beyond this object.
            server: Address and model.
            structured: Whether formats are sent at all.
        """
        self.structured = structured
        self._path = path
        self._server = server
        self._known = _read(path).get(server, Spoken())
        self._format: Format = self._known.format or _FORMATS[0]
        self._limit: Literal["max_tokens", "max_completion_tokens"] = self._known.limit or "max_tokens"
        self._failures = 0
        self._probing = asyncio.Lock()

    def fields(self, schema: dict[str, Any] | None, name: str, max_tokens: int) -> dict[str, Any]:
        """The fields of a request that depend on the server.

        Args:
            schema: JSON schema of the wanted answer, or ``None`` for free text.
            name: What to call the schema.
            max_tokens: Longest answer, in tokens.
        """
        fields: dict[str, Any] = {self._limit: max_tokens}
        form = self.format_for(schema)
        if form == "json_schema":
            described = {"name": name, "strict": True, "schema": schema}
            fields["response_format"] = {"type": "json_schema", "json_schema": described}
        elif form == "json_object":
            fields["response_format"] = {"type": "json_object", "schema": schema}
        return fields

    def format_for(self, schema: dict[str, Any] | None) -> Format:
        """The format in which a question with this schema is sent now."""
        return self._format if schema is not None and self.structured else "plain"

    @asynccontextmanager
    async def turn(self, schema: dict[str, Any] | None) -> AsyncIterator[None]:
        """Wait while another request finds out what this one would."""
        if self._is_known(schema):
            yield
            return
        await self._probing.acquire()
        if self._is_known(schema):
            self._probing.release()
            yield
            return
        try:
            yield
        finally:
            self._probing.release()

    def taken(self, sent: dict[str, Any], schema: dict[str, Any] | None) -> None:
        """A request with these fields was answered: remember what it shows."""
        self._failures = 0
        if self._is_known(schema):
            return
        limit: Any = self._limit if self._limit in sent else self._known.limit
        shown = self._format if schema is not None and self.structured and _format_of(sent) == self._format else None
        found = Spoken(format=shown or self._known.format, limit=limit)
        if found != self._known:
            self._known = found
            self._write()

    def refused(self, sent: dict[str, Any], status: int, error: dict[str, Any]) -> bool:
        """Whether a refusal was about the form, so that the request can be sent again in another.

        Args:
            sent: The request's body.
            status: The HTTP status.
            error: What the server said: ``message``, ``code``, ``param``, as far as it did.
        """
        if status not in (400, 422, 500, 501):
            return False
        words = " ".join(map(str, error.values())).lower()
        if (
            status < 500
            and "max_tokens" in sent
            and (error.get("param") == "max_tokens" or "max_completion_tokens" in words)
        ):
            self._limit = "max_completion_tokens"
            return True
        form = _format_of(sent)
        if form == "plain":
            if status < 500 and self._known.format is None:
                # Refused in every form: that was the request's own fault, and the format is as unknown as before.
                self._format = _FORMATS[0]
            return False
        if not self._blames_format(status, words):
            return False
        self._failures = 0
        if form == self._format:
            self._format = _FORMATS[_FORMATS.index(form) + 1]
            self._known = self._known.model_copy(update={"format": None})
        return True

    def _blames_format(self, status: int, words: str) -> bool:
        if any(word in words for word in _ABOUT_FORMAT):
            return True
        if self._known.format is not None or any(word in words for word in _ABOUT_CONTENT):
            return False
        if status < 500:
            return True
        self._failures += 1
        return self._failures >= FAILURES_BLAMED_ON_FORMAT

    def _is_known(self, schema: dict[str, Any] | None) -> bool:
        wants_format = schema is not None and self.structured
        return self._known.limit is not None and (self._known.format is not None or not wants_format)

    def _write(self) -> None:
        if self._path is None:
            return
        known = {**_read(self._path), self._server: self._known}
        write_json(self._path, {server: spoken.model_dump() for server, spoken in known.items()})


def _format_of(sent: dict[str, Any]) -> Format:
    return sent.get("response_format", {}).get("type", "plain")


def _read(path: Path | None) -> dict[str, Spoken]:
    """What is known by server; nothing where the file is missing or not what this version writes."""
    if path is None or not path.exists():
        return {}
    try:
        return {server: Spoken.model_validate(row) for server, row in json.loads(path.read_text("utf-8")).items()}
    except (ValueError, ValidationError, AttributeError):
        return {}
