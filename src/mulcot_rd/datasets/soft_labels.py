"""Folders of soft labels."""

from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError

from mulcot_rd.datasets.previews import JSONPreview
from mulcot_rd.files import local_path
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.kept import MANIFEST, Kept, read_manifest, write_manifest

if TYPE_CHECKING:
    from mulcot_rd.training.soft_labels import NoSoftLabels, SoftLabels


class SoftLabelsDataset(AbstractDataset["SoftLabels | NoSoftLabels", "SoftLabels | None"]):
    """A folder of soft labels, complete when its manifest is there; loads as a reader that maps the files.

    Variants without an assistant have none: their folder holds a manifest that says so, and loads as ``None``.

    Example:
        .. code-block:: yaml

            soft_labels:
              type: mulcot_rd.datasets.SoftLabelsDataset
              filepath: data/05_model_input/sample/arch4-tiny-full/soft_labels

        >>> from mulcot_rd.training.soft_labels import NoSoftLabels
        >>> dataset = SoftLabelsDataset(filepath=str(tmp_path / "soft_labels"))
        >>> dataset.save(NoSoftLabels("the variant has no trained assistant"))
        >>> dataset.load() is None
        True
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the folder.

        Args:
            filepath: The folder.
            metadata: Anything; kedro-viz reads its part.

        Raises:
            UserError: If it is a URL.
        """
        self._filepath = local_path(filepath, "soft labels")
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def load(self) -> "SoftLabels | None":
        """A reader of what is stored."""
        # Imported here: most commands need no torch.
        from mulcot_rd.training.soft_labels import SoftLabels

        manifest = read_manifest(self._filepath)
        return None if manifest is not None and "none" in manifest else SoftLabels(self._filepath)

    def save(self, data: "SoftLabels | NoSoftLabels") -> None:
        """Put finished soft labels in use."""
        from mulcot_rd.training.soft_labels import NoSoftLabels

        kept = Kept(self._filepath.parent, self._filepath.name)
        if isinstance(data, NoSoftLabels):
            manifest: dict[str, Any] = {
                "none": data.reason,
                "fingerprint": fingerprint("no soft labels", data.reason),
                "files": {},
            }
            if read_manifest(self._filepath) != manifest:
                made = kept.result(manifest["fingerprint"])
                write_manifest(made, manifest)
                kept.put(made)
            return
        kept.put(data.folder)

    def fingerprint(self) -> str:
        """Of what the soft labels that load were made from."""
        manifest = read_manifest(self._filepath)
        if manifest is None:
            raise DatasetError(f"{self._filepath} has no {MANIFEST}: run the pipeline data_expansion")
        return manifest["fingerprint"]

    def _exists(self) -> bool:
        manifest = read_manifest(self._filepath)
        # Soft labels of earlier versions name no files; data_expansion makes them again.
        return (
            manifest is not None
            and "files" in manifest
            and all((self._filepath / name).is_file() for name in manifest["files"])
        )

    def preview(self) -> JSONPreview:
        """The manifest, for kedro-viz."""
        return JSONPreview((self._filepath / MANIFEST).read_text(encoding="utf-8"))
