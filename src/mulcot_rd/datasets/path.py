"""Files and folders that a node works in itself."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from mulcot_rd.files import local_path


class PathDataset(AbstractDataset[Path, Path]):
    """Hands a node the path of a folder or file to work in: long work keeps its progress there.

    Loading makes the folder (or the file's folder) and returns the path. A node's result is never saved here; it
    has a dataset of its own, which exists only once it is complete.

    Example:
        .. code-block:: yaml

            assistant_workspace:
              type: mulcot_rd.datasets.PathDataset
              filepath: data/06_models/sample/arch4-tiny-full/assistant

        >>> PathDataset(filepath=str(tmp_path / "work")).load().is_dir()
        True
    """

    def __init__(self, *, filepath: str, folder: bool = True, metadata: dict[str, Any] | None = None) -> None:
        """Name the path.

        Args:
            filepath: The folder or file.
            folder: Whether it is a folder.
            metadata: Anything; kedro-viz reads its part.

        Raises:
            UserError: If it is a URL.
        """
        self._filepath = local_path(filepath, "a workspace")
        self._folder = folder
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def load(self) -> Path:
        """The path; its folder is there afterwards."""
        (self._filepath if self._folder else self._filepath.parent).mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: Path) -> NoReturn:
        """Refused: nodes write into the path themselves."""
        raise DatasetError(f"{self._filepath} is a place to work in; nothing is saved to it as a whole ({data!r})")

    def _exists(self) -> bool:
        return True
