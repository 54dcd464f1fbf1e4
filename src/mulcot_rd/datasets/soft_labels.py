"""Folders of soft labels."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from mulcot_rd.training.soft_labels import MANIFEST, SoftLabelManifest, SoftLabels


class SoftLabelsDataset(AbstractDataset[SoftLabelManifest, SoftLabels]):
    """A folder of soft labels, complete when its manifest is there; loads as a reader that maps the files.

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

    def load(self) -> SoftLabels:
        """A reader of the stored states."""
        return SoftLabels(self._filepath)

    def save(self, data: SoftLabelManifest) -> None:
        """Check that the folder holds what the manifest says; the shards and the manifest are written by then.

        Raises:
            DatasetError: If the folder's own manifest is another one.
        """
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
