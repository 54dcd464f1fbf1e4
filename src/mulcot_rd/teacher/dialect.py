"""What a server understands beyond the common ground of the chat completions API, found out once and remembered.

Servers differ in two things. The answer's format: a JSON schema may be taken as ``json_schema`` (OpenAI, vLLM), as
``json_object`` with a schema (llama.cpp), or not at all; one that passes it over answers in plain text, which the one
parser reads as well. And the name of the length limit: ``max_tokens``, or ``max_completion_tokens`` (OpenAI's newer
models refuse the former, llama.cpp passes over the latter). As long as this is not known, one request at a time is
sent, so that a refusal is met once; nobody waits for that longer than ``PATIENCE_S``.

A server that says nothing but 500 may have broken over the schema or by chance. It is asked in a weaker form, and once
it has answered that, the stronger one is tried again: it is given up after ``BREAKS_BLAMED_ON_FORMAT`` breaks with
answers between them.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mulcot_rd.files import locked, write_json
from mulcot_rd.schema import Record

Format = Literal["json_schema", "json_object", "plain"]
_FORMATS: tuple[Format, ...] = ("json_schema", "json_object", "plain")
# Words of a refusal that is about the format.
_ABOUT_FORMAT = ("response_format", "json_schema", "json_object", "structured output", "guided", "grammar")
# Words of one that is about this one request.
_ABOUT_CONTENT = ("content_filter", "content management policy", "content_policy", "context length", "context_length")
BREAKS_BLAMED_ON_FORMAT = 3
# A first request that hangs must not hold all others until its timeout.
PATIENCE_S = 10.0


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
        # The form that the server broke over, maybe by chance; how often; and the weaker one that it did answer.
        self._doubted: Format | None = None
        self._breaks = 0
        self._weaker: Format | None = None
        self._probing = asyncio.Lock()

    @property
    def answered(self) -> bool:
        """Whether the server is known to have answered, in this run or an earlier one."""
        return self._known != Spoken()

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
        """Wait while another request finds out what this one would, but not for long."""
        probing = not self._is_known(schema)
        if probing:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._probing.acquire()
            except TimeoutError:
                probing = False
        if probing and self._is_known(schema):
            self._probing.release()
            probing = False
        try:
            yield
        finally:
            if probing:
                self._probing.release()

    def taken(self, sent: dict[str, Any], schema: dict[str, Any] | None) -> None:
        """A request with these fields was answered: remember what it shows."""
        if self._is_known(schema):
            return
        limit: Any = self._limit if self._limit in sent else self._known.limit
        shown = self._shown_by(_format_of(sent)) if schema is not None and self.structured else None
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
            and not any(word in words for word in _ABOUT_CONTENT)
            and (error.get("param") == "max_tokens" or "max_completion_tokens" in words)
        ):
            self._limit = "max_completion_tokens"
            return True
        form = _format_of(sent)
        if form == "plain":
            if status < 500 and self._known.format is None:
                # Refused in every form: that was the request's own fault, and the format is as unknown as before.
                self._settle_on(_FORMATS[0])
            return False
        says_so = any(word in words for word in _ABOUT_FORMAT)
        if not says_so and (self._known.format is not None or any(word in words for word in _ABOUT_CONTENT)):
            return False
        broke = not says_so and status >= 500
        if broke and form == self._weaker:
            return False
        if form == self._format:
            self._give_up(form, broke=broke)
        return True

    def _give_up(self, form: Format, *, broke: bool) -> None:
        """Go on to a weaker form: for now where the server broke, else for good."""
        if broke:
            self._doubted = self._doubted or form
            self._breaks += form == self._doubted
        elif form == self._doubted:
            self._doubted = None
        self._format = self._weaker if self._weaker not in (None, form) else _FORMATS[_FORMATS.index(form) + 1]
        self._known = self._known.model_copy(update={"format": None})

    def _shown_by(self, form: Format) -> Format | None:
        """What an answer to a request of this form shows the server to take, or ``None`` if that is still open."""
        if form not in (self._format, self._doubted):
            return None
        if self._doubted not in (None, form) and self._breaks < BREAKS_BLAMED_ON_FORMAT:
            self._weaker, self._format = form, self._doubted
            return None
        self._settle_on(form)
        return form

    def _settle_on(self, form: Format) -> None:
        self._format, self._doubted, self._weaker, self._breaks = form, None, None, 0

    def _is_known(self, schema: dict[str, Any] | None) -> bool:
        wants_format = schema is not None and self.structured
        return self._known.limit is not None and (self._known.format is not None or not wants_format)

    def _write(self) -> None:
        if self._path is None:
            return
        # Runs of a data set share the file, and may speak with different servers.
        with locked(self._path):
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
