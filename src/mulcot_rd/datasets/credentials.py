"""Credentials as an input of a node, from ``conf/local/credentials.yml``."""

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from mulcot_rd.credentials import Credentials


class CredentialsDataset(AbstractDataset[Credentials, Credentials]):
    """Hands a node its credentials; they appear in no description and are never written.

    An entry that the user has not filled in loads as an empty dictionary; the node then looks in its environment
    variable.

    Example:
        .. code-block:: yaml

            teacher_credentials:
              type: mulcot_rd.datasets.CredentialsDataset
              credentials: openai

        >>> CredentialsDataset(credentials={"api_key": "made-up"}).load()
        (not shown)
    """

    def __init__(self, *, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Take the credentials.

        Args:
            credentials: What ``credentials.yml`` holds under the entry's name.
            metadata: Anything; kedro-viz reads its part.
        """
        self._credentials = Credentials(credentials or {})
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"credentials": "(not shown)"}

    def load(self) -> Credentials:
        """The credentials."""
        return Credentials(self._credentials)

    def save(self, data: Credentials) -> NoReturn:
        """Refused: credentials are only read."""
        raise DatasetError("credentials are never written")

    def _exists(self) -> bool:
        return True
