"""Server capabilities: what a server takes beyond the common ground of chat completions, tried once and remembered.

Servers differ in two things. The answer's format: a JSON schema may be taken as ``json_schema`` (OpenAI, vLLM), as
``json_object`` with a schema (llama.cpp), or not at all. And the name of the length limit: ``max_tokens``, or
``max_completion_tokens`` (OpenAI's newer models). A request that is refused for its form is sent again in the next one;
the first that is answered settles it, also where the server passes a field over: one parser reads all answers.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from mulcot_rd.files import locked, write_json
from mulcot_rd.schema import Record

Format = Literal["json_schema", "json_object", "plain"]
StructuredOutput = Literal["auto", "json_schema", "json_object", "off"]
_FORMATS: tuple[Format, ...] = ("json_schema", "json_object", "plain")
# Words of a refusal that is about the format.
_ABOUT_FORMAT = ("response_format", "json_schema", "json_object", "structured output", "guided", "grammar")
# Words of one that is about this one request.
_ABOUT_CONTENT = ("content_filter", "content management policy", "content_policy", "context length", "context_length")
# A server that says nothing but 500 may have broken over the schema (llama.cpp) or by chance.
BREAKS_BLAMED_ON_FORMAT = 3


class Known(Record):
    """What one model of one server is known to take; ``None`` where no answer has shown it yet."""

    format: Format | None = None
    limit: Literal["max_tokens", "max_completion_tokens"] | None = None


class Capabilities:
    """The form of requests to one model of one server."""

    def __init__(self, path: Path, server: str, structured_output: StructuredOutput) -> None:
        """Recall what earlier runs found out; ``path`` is a JSON file of that, by ``server`` (address and model)."""
        self._path = path
        self._server = server
        self._known = _read(path).get(server, Known())
        self._auto = structured_output == "auto"
        self._format: Format = self._known.format or _FORMATS[0]
        if structured_output != "auto":
            self._format = "plain" if structured_output == "off" else structured_output
        self._limit = self._known.limit or "max_tokens"
        self._breaks = 0

    @property
    def answered(self) -> bool:
        """Whether the server is known to have answered, in this run or an earlier one."""
        return self._known != Known()

    def fields(self, schema: dict[str, Any] | None, name: str, max_tokens: int) -> dict[str, Any]:
        """The fields of a request that depend on the server; ``schema`` is ``None`` for free text."""
        fields: dict[str, Any] = {self._limit: max_tokens}
        if schema is None or self._format == "plain":
            return fields
        wanted: dict[str, Any] = {"type": "json_object", "schema": schema}
        if self._format == "json_schema":
            wanted = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
        return {**fields, "response_format": wanted}

    def taken(self, sent: dict[str, Any], schema: dict[str, Any] | None) -> None:
        """A request with these fields was answered: remember what it shows."""
        known = self._known
        if known.limit is None and self._limit in sent:
            known = known.model_copy(update={"limit": self._limit})
        if self._auto and known.format is None and schema is not None and _format_of(sent) == self._format:
            known = known.model_copy(update={"format": self._format})
        if known != self._known:
            self._known = known
            # Runs of a data set share the file, and may use different servers.
            with locked(self._path):
                rows = {**_read(self._path), self._server: known}
                write_json(self._path, {server: each.model_dump() for server, each in rows.items()})

    def refused(self, sent: dict[str, Any], status: int, error: dict[str, Any]) -> bool:
        """Whether a refusal of the body ``sent`` was about the form, so that it can be sent again in another."""
        if status not in (400, 422, 500, 501):
            return False
        words = " ".join(map(str, error.values())).lower()
        about_content = any(word in words for word in _ABOUT_CONTENT)
        about_limit = error.get("param") == "max_tokens" or "max_completion_tokens" in words
        if status < 500 and "max_tokens" in sent and about_limit and not about_content:
            self._limit = "max_completion_tokens"
            return True
        form, known = _format_of(sent), self._known.format is not None
        if not self._auto or form == "plain":
            if self._auto and status < 500 and not known:
                # Refused in every form: that was the request's own fault, and the format is as unknown as before.
                self._format = _FORMATS[0]
            return False
        about_format = any(word in words for word in _ABOUT_FORMAT)
        if not about_format and (about_content or known):
            return False
        if form == self._format:
            self._breaks += 1
            if not about_format and status >= 500 and self._breaks < BREAKS_BLAMED_ON_FORMAT:
                return False
            self._format, self._breaks = _FORMATS[_FORMATS.index(form) + 1], 0
            self._known = self._known.model_copy(update={"format": None})
        return True


def _format_of(sent: dict[str, Any]) -> Format:
    return sent.get("response_format", {}).get("type", "plain")


def _read(path: Path) -> dict[str, Known]:
    """What is known by server; nothing where the file is missing or not what this version writes."""
    try:
        return TypeAdapter(dict[str, Known]).validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
