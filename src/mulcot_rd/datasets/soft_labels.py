"""Folders of soft labels."""

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from mulcot_rd.files import empty_folder, write_json
from mulcot_rd.training.soft_labels import MANIFEST, NoSoftLabels, SoftLabelManifest, SoftLabels


class SoftLabelsDataset(AbstractDataset[SoftLabelManifest | NoSoftLabels, SoftLabels | None]):
    """A folder of soft labels, complete when its manifest is there; loads as a reader that maps the files.

    Variants without an assistant have none: their folder holds a manifest that says so, and loads as ``None``.

    Example:
        .. code-block:: yaml

            soft_labels:
              type: mulcot_rd.datasets.SoftLabelsDataset
              filepath: data/05_model_input/sample/arch4-tiny-full/soft_labels
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the folder.

        Args:
            filepath: The folder.
            metadata: Anything; kedro-viz reads its part.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> SoftLabels | None:
        """A reader of what is stored."""
        manifest = json.loads((self._filepath / MANIFEST).read_text(encoding="utf-8"))
        return None if "none" in manifest else SoftLabels(self._filepath)

    def save(self, data: SoftLabelManifest | NoSoftLabels) -> None:
        """Check that the folder holds what the manifest says; the shards and the manifest are written by then.

        Raises:
            DatasetError: If the folder's own manifest is another one.
        """
        if isinstance(data, NoSoftLabels):
            write_json(empty_folder(self._filepath) / MANIFEST, {"none": data.reason})
            return
        if SoftLabels(self._filepath).manifest != data:
            raise DatasetError(
                f"{self._filepath} holds other soft labels than those just written: run the pipeline again"
            )

    def _exists(self) -> bool:
        return (self._filepath / MANIFEST).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def preview(self) -> JSONPreview:
        """The manifest, for kedro-viz."""
        return JSONPreview((self._filepath / MANIFEST).read_text(encoding="utf-8"))
