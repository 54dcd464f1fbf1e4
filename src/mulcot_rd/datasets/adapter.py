"""Trained adapters: folders that are complete when their manifest is there."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from mulcot_rd.datasets.previews import JSONPreview
from mulcot_rd.kept import MANIFEST, Kept, read_manifest, write_manifest


class AdapterDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """A folder with an adapter in peft's own layout, or a model that was trained whole, its processor and a manifest.

    What travels between nodes is the manifest: weights stay on disk. Saving puts the folder that the manifest names in
    use; the one that was in use before moves to ``earlier`` beside it (:mod:`mulcot_rd.kept`).

    Example:
        .. code-block:: yaml

            student_adapter:
              type: mulcot_rd.datasets.AdapterDataset
              filepath: data/06_models/sample/arch4-tiny-full/student
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the folder.

        Args:
            filepath: The folder.
            metadata: Anything; kedro-viz reads its part.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """The manifest, with the folder's path under "folder".

        Raises:
            DatasetError: If there is none, or a file that it names is missing.
        """
        manifest = read_manifest(self._filepath)
        if manifest is None:
            raise DatasetError(f"{self._filepath} has no {MANIFEST}: run the pipeline that trains it")
        if missing := _missing(self._filepath, manifest):
            raise DatasetError(
                f"{', '.join(missing)} is missing in {self._filepath} beside its manifest: put it back, or move the "
                "folder away and run the pipeline that trains it"
            )
        return {**manifest, "folder": str(self._filepath)}

    def save(self, data: dict[str, Any]) -> None:
        """Put the finished folder that the manifest names in use; of a role that is not trained write the manifest.

        Raises:
            DatasetError: If the folder is not finished.
        """
        kept = Kept(self._filepath.parent, self._filepath.name)
        if data["trained"]:
            made = Path(data["folder"])
            manifest = read_manifest(made)
            if manifest is None or _missing(made, manifest):
                raise DatasetError(f"{made} is not finished: the manifest would promise what is not there")
            kept.put(made)
        elif read_manifest(self._filepath) != data:
            made = kept.result(data["fingerprint"])
            write_manifest(made, data)
            kept.put(made)

    def _exists(self) -> bool:
        manifest = read_manifest(self._filepath)
        return manifest is not None and not _missing(self._filepath, manifest)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def preview(self) -> JSONPreview:
        """The manifest, for kedro-viz."""
        return JSONPreview((self._filepath / MANIFEST).read_text(encoding="utf-8"))


def _missing(folder: Path, manifest: dict[str, Any]) -> list[str]:
    return [name for name in manifest.get("files", ()) if not (folder / name).is_file()]
