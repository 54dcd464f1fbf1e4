"""Trained adapters: folders that are complete when their manifest is there."""

import json
import shutil
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from mulcot_rd.files import write_json
from mulcot_rd.models.lora import trained_weights

MANIFEST = "manifest.json"


class AdapterDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """A folder with an adapter in peft's own layout, or a model that was trained whole, its processor and a manifest.

    What travels between nodes is the manifest: weights stay on disk. Saving writes the manifest, last of all, and
    drops the checkpoints of the training that is now complete.

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
            DatasetError: If the adapter's weights are missing beside their manifest.
        """
        manifest = json.loads((self._filepath / MANIFEST).read_text(encoding="utf-8"))
        weights = trained_weights(self._filepath)
        if manifest["trained"] and not weights.is_file():
            raise DatasetError(f"{weights} is missing beside its manifest: delete the folder and train again")
        return {**manifest, "folder": str(self._filepath)}

    def save(self, data: dict[str, Any]) -> None:
        """Write the manifest; the weights are there already, unless the variant trains none.

        Raises:
            DatasetError: If they are not.
        """
        weights = trained_weights(self._filepath)
        if data["trained"] and not weights.is_file():
            raise DatasetError(f"{weights} is missing: the manifest would promise what is not there")
        write_json(self._filepath / MANIFEST, {key: value for key, value in data.items() if key != "folder"})
        shutil.rmtree(self._filepath / "work" / "checkpoint", ignore_errors=True)

    def _exists(self) -> bool:
        manifest = self._filepath / MANIFEST
        if not manifest.is_file():
            return False
        trained = json.loads(manifest.read_text(encoding="utf-8"))["trained"]
        return not trained or trained_weights(self._filepath).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def preview(self) -> JSONPreview:
        """The manifest, for kedro-viz."""
        return JSONPreview((self._filepath / MANIFEST).read_text(encoding="utf-8"))
