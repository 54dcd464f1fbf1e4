"""Keys of servers: which server gets which key, and a dictionary that doesn't show them."""

import json
import os
import re
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel

OPENAI_URL = "https://api.openai.com/v1"
KEY_HELP = "set OPENAI_API_KEY, or openai.api_key in conf/local/credentials.yml"


class Credentials(dict[str, Any]):
    """A dictionary that prints nothing of what it holds: Kedro's debug log shows every argument of every hook."""

    def __repr__(self) -> str:
        return "(not shown)"

    def api_key(self, base_url: str | None) -> str | None:
        """A server's key: ``api_key`` for the OpenAI API, for any other that of its own entry under ``servers``.

        Args:
            base_url: The server's address, or ``None`` for the OpenAI API.
        """
        if is_openai(base_url):
            return self.get("api_key")
        servers = {str(address).rstrip("/"): entry for address, entry in (self.get("servers") or {}).items()}
        return (servers.get(str(base_url).rstrip("/")) or {}).get("api_key")


def is_openai(base_url: str | None) -> bool:
    """Whether an address is the OpenAI API's own; ``None`` is."""
    if base_url is None:
        return True
    address = urlsplit(base_url)
    host = address.hostname or ""
    return address.scheme == "https" and (host == "api.openai.com" or host.endswith(".api.openai.com"))


def _well_formed(base_url: str) -> str:
    """The address of a server as it is; its password must not show in the error of another one."""
    try:
        address = urlsplit(base_url)
        host = (address.hostname or "").encode("idna")
        well_formed = address.scheme in ("http", "https") and bool(host) and address.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or re.search(r"\s", base_url):
        raise ValueError("base_url must be a server's address such as http://host:8000/v1")
    return base_url


ServerURL = Annotated[str, AfterValidator(_well_formed)]


def without_password(text: str) -> str:
    """An address, or a sentence with addresses, as it may be shown and written down."""
    return re.sub(r'(?<=//)[^\s"]*@', "", text)


def recorded(parameters: BaseModel, exclude: Any = None) -> dict[str, Any]:
    """Parameters as they are written beside a result: plain values, addresses without passwords."""
    return json.loads(without_password(parameters.model_dump_json(exclude=exclude)))


def password_of(base_url: str) -> str | None:
    """The password in an address, or ``None``."""
    password = urlsplit(base_url).password
    return unquote(password) if password else None


def is_local(base_url: str) -> bool:
    """Whether a server is on this machine, so that no proxy leads to it."""
    host = urlsplit(base_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def server_key(base_url: str | None, api_key: str | None, api_key_env: str | None) -> str | None:
    """The key to send to a server: the one given, else the named variable's, else for OpenAI ``OPENAI_API_KEY``.

    Args:
        base_url: The server's address, or ``None`` for the OpenAI API.
        api_key: What the credentials hold for this server.
        api_key_env: Name of an environment variable, or ``None``.

    Returns:
        The key without blanks around it, or ``None`` where there is none.

    Raises:
        ValueError: If the named variable is not set, or no HTTP header can carry the key.
    """
    source, key = "the API key in conf/local/credentials.yml", api_key
    if not key and (api_key_env is not None or is_openai(base_url)):
        source = api_key_env or "OPENAI_API_KEY"
        key = os.environ.get(source)
        if api_key_env is not None and not key:
            raise ValueError(f"api_key_env names {source}, and there is no such environment variable: set it")
    key = str(key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"{source} can't be sent, since it has a line break, a curly quote or another character that is not plain "
            "ASCII: copy the key again"
        )
    return key or None
