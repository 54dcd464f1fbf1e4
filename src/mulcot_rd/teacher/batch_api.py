"""Files and batches of an OpenAI-compatible server, every call through the one retry layer."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import openai
from openai.types import Batch

from mulcot_rd.teacher.batch_files import ENDPOINT
from mulcot_rd.teacher.errors import RequestFailedError, TeacherError
from mulcot_rd.teacher.openai_client import OpenAITeacher

T = TypeVar("T")

# The batch's metadata under this name is the job's name.
METADATA = "mulcot_rd_job"
PAGE = 100
# Files of hundreds of megabytes, on whatever line.
TRANSFER_TIMEOUT_S = 3600.0


class BatchAPI:
    """The four calls that a batch takes, on the connection of an :class:`OpenAITeacher`."""

    def __init__(self, server: OpenAITeacher) -> None:
        """Use the server's connection, key and retry layer."""
        self._server = server
        self._client = server.client

    async def upload(self, path: Path, name: str) -> str:
        """Upload an input file and return the server's name for it. Uploading again costs nothing.

        Raises:
            TeacherError: If it can't be uploaded.
        """

        async def send() -> str:
            with path.open("rb") as file:
                uploaded = await self._client.files.create(file=(f"{name}.jsonl", file), purpose="batch")
            return uploaded.id

        return await self._call(send, "uploading a batch", TRANSFER_TIMEOUT_S)

    async def find(self, name: str) -> Batch | None:
        """The batch that was created under a job's name, if there is one.

        Raises:
            TeacherError: If the server's batches can't be listed.
        """
        return await self._call(lambda: self._find(name), "listing the batches")

    async def create(self, input_file_id: str, name: str, completion_window: str) -> Batch:
        """Create a batch, or find it where an earlier call created it and its answer was lost.

        Raises:
            TeacherError: If it can't be created.
        """

        async def send() -> Batch:
            found = await self._find(name)
            if found is not None:
                return found
            return await self._client.batches.create(
                input_file_id=input_file_id,
                endpoint=ENDPOINT,
                completion_window=completion_window,  # type: ignore[arg-type]
                metadata={METADATA: name},
            )

        return await self._call(send, "creating a batch")

    async def retrieve(self, batch_id: str, notes: Path) -> Batch:
        """The batch as it stands; ``notes`` is what to delete where the server has forgotten it.

        Raises:
            RequestFailedError: If the server doesn't say at the moment.
            TeacherError: If it will never say.
        """

        async def send() -> Batch:
            try:
                return await self._client.batches.retrieve(batch_id)
            except openai.NotFoundError:
                raise TeacherError(
                    f"{self._server.base_url} knows nothing of {batch_id} any more: delete {notes} to have its "
                    "questions asked again"
                ) from None

        return await self._server.call(send)

    async def download(self, file_id: str) -> bytes:
        """A file's content.

        Raises:
            TeacherError: If it can't be had.
        """

        async def send() -> bytes:
            return self._server.masked((await self._client.files.content(file_id)).content)

        return await self._call(send, "downloading a batch's results", TRANSFER_TIMEOUT_S)

    async def _find(self, name: str) -> Batch | None:
        async for batch in self._client.batches.list(limit=PAGE):
            if (batch.metadata or {}).get(METADATA) == name:
                return batch
        return None

    async def _call(self, send: Callable[[], Awaitable[T]], doing: str, timeout_s: float | None = None) -> T:
        try:
            return await self._server.call(send, timeout_s)
        except RequestFailedError as error:
            raise TeacherError(
                f"{doing} failed ({error}); run the same command again, nothing that was answered is asked again"
            ) from None
