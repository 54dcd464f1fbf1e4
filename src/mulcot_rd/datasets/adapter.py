"""Trained adapters: folders that are complete when their manifest is there."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import DatasetError

from mulcot_rd.datasets.previews import JSONPreview
from mulcot_rd.datasets.versioned import VersionedDataset
from mulcot_rd.files import empty_folder, local_path
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.kept import MANIFEST, Kept, parsed_manifest, read_manifest, write_manifest
from mulcot_rd.versions import link_folder


class AdapterDataset(VersionedDataset[dict[str, Any], dict[str, Any]]):
    """A folder with an adapter in peft's own layout, or a model that was trained whole, its processor and a manifest.

    What travels between nodes is the manifest: weights stay on disk. Saving makes a version of the folder that the
    manifest names; its files are linked, not copied, where the file system can. At a URL they are uploaded, and loading
    needs them in the workspace: what is not there is downloaded into it. Without versions the folder is put in use, and
    the one that was moves to ``earlier`` beside it (:mod:`mulcot_rd.kept`).

    Example:
        .. code-block:: yaml

            student_adapter:
              type: mulcot_rd.datasets.AdapterDataset
              filepath: s3://bucket/06_models/sample/arch4-tiny-full/student
              workspace: {path: data/06_models/sample/arch4-tiny-full}
              versioned: true
              credentials: results

        >>> dataset = AdapterDataset(filepath=str(tmp_path / "student"))
        >>> dataset.save({"role": "student", "trained": False, "fingerprint": "zero-shot", "files": {}})
        >>> dataset.load()["role"]
        'student'
    """

    def __init__(self, *, workspace: dict[str, str] | None = None, **kwargs: Any) -> None:
        """Name the folder.

        Args:
            workspace: Under ``path`` the folder of the run's models, where they are trained; by default the one that
                holds the adapter. Kedro takes a relative ``path`` as the project's.
            kwargs: Of :class:`mulcot_rd.datasets.versioned.VersionedDataset`: ``filepath``, ``version``,
                ``credentials``, ``fs_args``, ``metadata``.

        Raises:
            UserError: If the workspace is a URL.
            ValueError: If the adapter is elsewhere than its workspace, and has no versions.
        """
        super().__init__(**kwargs)
        where = str(kwargs["filepath"])
        work = workspace["path"] if workspace else where.rpartition("/")[0]
        self._kept = Kept(local_path(work, "the workspace"), self._filepath.name)
        # Whether training finds its finished results where this dataset puts them.
        self._at_workspace = self._protocol == "file" and self._kept.place == Path(self._filepath)
        if self._version is None and not self._at_workspace:
            raise ValueError(f"{where}: an adapter outside of its workspace needs versions: add versioned: true")

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "workspace": str(self._kept.folder)}

    def load(self) -> dict[str, Any]:
        """The manifest, with the folder's path under "folder".

        Raises:
            DatasetError: If there is none, or a file that it names is missing.
        """
        path = self._get_load_path()
        if not self._is_there(str(path)):
            raise DatasetError(f"{path} has no {MANIFEST}: run the pipeline that trains it")
        folder = Path(path) if self._protocol == "file" else self._downloaded(path)
        manifest = read_manifest(folder) or {}
        if missing := _missing(folder, manifest):
            raise DatasetError(
                f"{', '.join(missing)} is missing in {folder} beside its manifest: put it back, or move the "
                "folder away and run the pipeline that trains it"
            )
        return {**manifest, "folder": str(folder)}

    def save(self, data: dict[str, Any]) -> None:
        """Put the finished folder that the manifest names in use; of a role that is not trained write the manifest.

        Raises:
            DatasetError: If the folder is not finished.
        """
        if self._version is None:
            self._refuse_versions()
        made = Path(data["folder"]) if data["trained"] else self._kept.result(data["fingerprint"])
        if not data["trained"]:
            write_manifest(made, data)
        manifest = read_manifest(made)
        if manifest is None or _missing(made, manifest):
            raise DatasetError(f"{made} is not finished: the manifest would promise what is not there")
        if self._version is None:
            self._kept.put(made)
            return
        self._save_version(
            lambda path: self._manifest(path) == manifest,
            lambda path: self._put(made, path),
            manifest["fingerprint"],
        )
        if self._at_workspace:
            self._kept.leave_manifest(manifest)

    def _exists(self) -> bool:
        path = self._get_load_path()
        if not self._is_there(str(path)):
            return False
        return self._protocol != "file" or not _missing(Path(path), self._manifest(path))

    def preview(self) -> JSONPreview:
        """The manifest, for kedro-viz."""
        return JSONPreview(self._fs.cat_file(self._marker(self._get_load_path())).decode())

    def fingerprint(self) -> str:
        """Of what the adapter that loads was made from."""
        return self._manifest(self._get_load_path())["fingerprint"]

    def _put(self, made: Path, path: PurePosixPath) -> None:
        if self._protocol == "file":
            link_folder(made, Path(path))
            return
        names = [file.name for file in made.iterdir() if file.is_file() and file.name != MANIFEST]
        # The manifest last: the version is there once it is.
        for name in (*names, MANIFEST):
            self._fs.put_file(str(made / name), f"{path}/{name}")

    def _downloaded(self, path: PurePosixPath) -> Path:
        """The files of a version at a URL, in the workspace: where training left them, or downloaded."""
        manifest = self._manifest(path)
        trained_here = self._kept.find(manifest["fingerprint"])
        if trained_here is not None and trained_here == {**manifest, "folder": trained_here["folder"]}:
            return Path(trained_here["folder"])
        folder = self._kept.result(fingerprint(manifest))
        if not folder.is_dir():
            partial = empty_folder(folder.with_name("partial"))
            for file in self._fs.ls(str(path), detail=False):
                self._fs.get_file(file, str(partial / PurePosixPath(file).name))
            partial.rename(folder)
        return folder

    def _manifest(self, path: PurePosixPath | Path) -> dict[str, Any]:
        file = self._marker(path)
        return parsed_manifest(self._fs.cat_file(file).decode(), file)

    def _marker(self, path: PurePosixPath | Path | str) -> str:
        return f"{path}/{MANIFEST}"

    def _move_unversioned(self, version: str) -> None:
        if (aside := self._kept.set_aside()) is not None:
            path = Path(self._get_versioned_path(version))
            path.parent.mkdir(parents=True)
            aside.rename(path)


def _missing(folder: Path, manifest: dict[str, Any]) -> list[str]:
    return [name for name in manifest.get("files", ()) if not (folder / name).is_file()]
