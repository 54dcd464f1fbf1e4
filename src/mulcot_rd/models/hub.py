"""Uploading an exported model to the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError

from mulcot_rd.errors import UserError


class HubRepository:
    """A repository of the hub that models are uploaded to: private, unless it was there and is public."""

    def __init__(self, name: str, token: str | None) -> None:
        """Make the repository if it is not there.

        Args:
            name: Its name, such as ``user/student``.
            token: A token that may write; where ``HF_TOKEN`` or ``hf auth login`` gives one, that is used.

        Raises:
            UserError: If there is no usable token, or the hub can't be reached or refuses.
        """
        token = get_token() or token
        if not token:
            raise UserError(
                "an upload to the hub needs a token that may write: set HF_TOKEN, or write huggingface: {token: ...} "
                "into conf/local/credentials.yml"
            )
        if not (token.isascii() and token.isprintable()):
            raise UserError("the hub's token has a character that is not plain ASCII: copy it again")
        self._name, self._api = name, HfApi(token=token)
        with self._refused():
            self._api.create_repo(name, private=True, exist_ok=True)

    def upload(self, folder: Path) -> str:
        """Upload a folder as one commit.

        Returns:
            The commit's address.

        Raises:
            UserError: If the hub can't be reached or refuses.
        """
        with self._refused():
            return self._api.upload_folder(repo_id=self._name, folder_path=folder, commit_message="kedro export")

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except (OSError, httpx2.HTTPError, HFValidationError) as error:
            raise UserError(f"nothing was uploaded to {self._name} on the hub: {error}") from error
