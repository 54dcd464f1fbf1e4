"""What an error of a server means: ask again later, this request is lost, or no request can succeed."""

import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import openai

from mulcot_rd.credentials import KEY_HELP, is_local, is_openai
from mulcot_rd.teacher.errors import RequestRefusedError, TeacherError, TransientFaultError
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.transport import parse_retry_after

# Raised before anything of a request is sent: no route, name, port, TLS or proxy.
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached"}
# How servers that answer everything with 400 or 403 say that the account has no money (Anthropic, OpenAI), or that the
# key is wrong (Google).
_SPENT = ("credit balance is too low", "billing hard limit", "exceeded your current quota", "insufficient credit")
_WRONG_KEY = ("api key not valid", "api key expired", "invalid api key")
# Statuses besides 5xx that heal; of a server that may have gone on working.
_HEALING = (408, 409, 425, 429)
_MAYBE_BILLED = (408, 504, 524)
# Words of a 403 that is about one request's content and not about the key, as OpenRouter sends it.
_MODERATED = ("moderation", "flagged", "content_filter", "content policy")


class ServerErrors:
    """Turns what one server, the SDK or the network reports into this package's errors."""

    def __init__(self, parameters: TeacherParameters, base_url: str, secret: str | None) -> None:
        """Take the server's address without a password, and the key or password, which no message repeats.

        Raises:
            TeacherError: If the environment names a proxy that the client can't use.
        """
        self._parameters = parameters
        self._base_url = base_url
        self._secret = secret
        self._proxy = None if is_local(base_url) else _proxy_variable(base_url)

    def of_exception(self, error: Exception, *, answered: bool) -> Exception:
        """What an exception of the SDK, a timeout or broken JSON means; ``answered``: the server ever did."""
        if isinstance(error, openai.APIStatusError):
            return self.of_status(error.status_code, error.body, error.response.headers)
        if isinstance(error, openai.APIConnectionError) and isinstance(error.__cause__, _NEVER_SENT):
            return self._no_connection(error.__cause__, answered=answered)
        reason = "the server's answer is not JSON"
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self._parameters.timeout_s:g} s"
        elif isinstance(error, openai.APIConnectionError):
            reason = f"the connection to {self._base_url} failed"
        return TransientFaultError(reason, maybe_billed=True)

    def of_status(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Exception:
        """What an HTTP status other than 200 means; ``body`` is the response's JSON, or its text."""
        error = error_in(body)
        said = self.said(error)
        too_large = status == 429 and "request too large" in said.lower()
        fatal = self._fatal(status, error, said)
        if fatal is not None:
            return fatal
        if (status in _HEALING or status >= 500) and not too_large:
            return TransientFaultError(
                f"the server said {status}", parse_retry_after(headers or {}), maybe_billed=status in _MAYBE_BILLED
            )
        # What is left (400, 413, 422: too long, filtered) concerns this request; others may pass.
        return RequestRefusedError(f"the server refused the request with {status} ({said})")

    def _fatal(self, status: int, error: dict[str, Any], said: str) -> TeacherError | None:
        """Why no request can succeed any more, if that is what a status means."""
        in_words = said.lower() if status in (400, 403) else ""
        no_quota = status in (400, 403, 429) and _NO_QUOTA & {error.get("code"), error.get("type")}
        if status == 402 or no_quota or any(words in in_words for words in _SPENT):
            return TeacherError(f"the account's quota is spent ({said}); top it up and run the same command again")
        if status == 407:
            return self._proxy_password()
        no_access = status == 403 and not any(word in in_words for word in _MODERATED)
        if status == 401 or no_access or any(words in in_words for words in _WRONG_KEY):
            cure = KEY_HELP
            if not is_openai(self._base_url):
                cure = (
                    f"give this server's key under servers, {self._base_url}, api_key in conf/local/credentials.yml, "
                    "or name its environment variable by api_key_env"
                )
            return TeacherError(f"the server refuses the API key with {status} ({said}): {cure}")
        if status == 404:
            return TeacherError(
                f"the server at {self._base_url} knows no model {self._parameters.model!r} or no such address "
                f"({said}): check teacher.model and teacher.base_url"
            )
        if status == 400 and error.get("param") == "temperature":
            return TeacherError(
                f"the model refuses teacher.temperature={self._parameters.temperature:g} ({said}): set another; "
                "a served student has to take 0, for answers that are greedy"
            )
        return None

    def of_answer(self, body: dict[str, Any], *, answered: bool) -> Exception:
        """What an error means that came with status 200."""
        error = error_in(body)
        code = str(error.get("code"))
        if code.isdecimal() and int(code) >= 400:
            return self.of_status(int(code), body)
        said = f"the server at {self._base_url} answered with an error ({self.said(error)})"
        if answered:
            return RequestRefusedError(said)
        return TeacherError(f"{said}: check teacher.base_url, which most often ends in /v1, and teacher.model")

    def said(self, error: dict[str, Any]) -> str:
        """What the server said, in one line of at most 200 characters, without the key or password."""
        # FastAPI's servers say why under "detail".
        reason = error.get("message") or error.get("detail") or error.get("code") or "no reason given"
        said = " ".join(str(reason).split())
        return (said.replace(self._secret, "[key]") if self._secret else said)[:200]

    def _no_connection(self, error: Exception, *, answered: bool) -> Exception:
        """What it means that no connection was made: a name or a certificate does not mend by asking again."""
        if isinstance(error, httpx2.ProxyError):
            if str(error).startswith("407"):
                return self._proxy_password()
            return TransientFaultError(f"no connection to {self._base_url} (the proxy refuses it with {error})")
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        why = "it takes too long" if isinstance(error, httpx2.ConnectTimeout) else str(error)
        through = "" if self._proxy is None else f" through the proxy of {self._proxy}"
        said = f"no connection to {self._base_url}{through} ({why})"
        # A name that has led to a server in this run is lost for a while.
        unknown_name = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME and not answered
        if unknown_name or isinstance(cause, ssl.SSLError):
            return TeacherError(f"{said}: check teacher.base_url")
        return TransientFaultError(said)

    def _proxy_password(self) -> TeacherError:
        return TeacherError(
            f"the proxy asks for a name and password: give them in {self._proxy}, as http://NAME:PASSWORD@HOST:PORT"
        )


def error_in(body: Any) -> dict[str, Any]:
    """The error in a response, as far as it has one: ``message``, ``code``, ``type``, ``param``."""
    error = body.get("error", body) if isinstance(body, dict) else body
    return error if isinstance(error, dict) else {"message": error}


def _proxy_variable(base_url: str) -> str | None:
    """The environment variable whose proxy leads to a server, or ``None``.

    Raises:
        TeacherError: If a variable names a proxy that the client can't use, even for other addresses.
    """
    proxies = getproxies()
    for name in ("http", "https", "all"):
        kind = urlsplit(proxies.get(name, "")).scheme
        if kind not in ("", "http", "https"):
            raise TeacherError(
                f"{name}_proxy names a {kind} proxy, and the teacher's client goes through HTTP proxies alone: set "
                "it to one, or unset the variable"
            )
    address = urlsplit(base_url)
    if proxy_bypass(address.hostname or ""):
        return None
    return next((f"{name}_proxy" for name in (address.scheme, "all") if name in proxies), None)
