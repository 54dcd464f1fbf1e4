"""Files of every run, which tables and figures compare."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import fsspec
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import get_protocol_and_path


class RunFilesDataset(AbstractDataset[Path, Path]):
    """Hands a node the folder of a layer with ``<dataset>/<run>/`` of every run on disk.

    At a URL it is a local copy of the files that are named, in their newest version, in the same layout without
    versions; it goes with the process. Of some runs it holds all versions with their records.

    Example:
        .. code-block:: yaml

            all_models:
              type: mulcot_rd.datasets.RunFilesDataset
              filepath: s3://bucket/06_models
              files: {student: [manifest.json, history.jsonl]}
              credentials: results

        >>> files = {"student": ["manifest.json", "history.jsonl"]}
        >>> RunFilesDataset(filepath=str(tmp_path / "06_models"), files=files).load().name
        '06_models'
    """

    def __init__(
        self,
        *,
        filepath: str,
        files: dict[str, list[str]],
        versions_of: Iterable[str] = (),
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the folder.

        Args:
            filepath: The folder of the layer, with a protocol where it is not on this machine.
            files: What is read below a run's folder: the files of each folder, or ``[""]`` for a file. A version is
                there once the first one is.
            versions_of: The runs, as ``<dataset>/<run>``, of which all versions are read.
            credentials: Of the file system.
            metadata: Anything; kedro-viz reads its part.
        """
        self._protocol, path = get_protocol_and_path(filepath)
        self._filepath = PurePosixPath(path)
        self._files = files
        self._versions_of = frozenset(versions_of)
        self._fs = fsspec.filesystem(self._protocol, **(credentials or {}))
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "protocol": self._protocol, "files": list(self._files)}

    def load(self) -> Path:
        """The folder; it is there afterwards."""
        if self._protocol == "file":
            Path(self._filepath).mkdir(parents=True, exist_ok=True)
            return Path(self._filepath)
        self._copy_of_files = TemporaryDirectory(prefix="mulcot_rd-")
        self._fs.invalidate_cache()
        for target, source in self._wanted().items():
            local = Path(self._copy_of_files.name, *target)
            local.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(source, str(local))
        return Path(self._copy_of_files.name)

    def save(self, data: Path) -> NoReturn:
        """Refused: every file has a dataset of its own."""
        raise DatasetError(f"{self._filepath} is only read; nothing is saved to it ({data!r})")

    def _wanted(self) -> dict[tuple[str, ...], str]:
        """Where each file lies, by data set, run, and its path there, of the newest version without that."""
        root = str(self._filepath)
        versions: dict[tuple[str, ...], dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
        found = {}
        for path in self._fs.find(root) if self._fs.isdir(root) else ():
            parts = PurePosixPath(path).relative_to(root).parts
            if "/".join(parts[:2]) in self._versions_of and not self._files.keys().isdisjoint(parts[2:3]):
                found[parts] = path
                continue
            match parts:
                case [dataset, run, name, version, again, *inside] if again == name:
                    versions[dataset, run, name][version]["/".join(inside)] = path
                case [dataset, run, name, *inside]:
                    versions[dataset, run, name][""]["/".join(inside)] = path
        for (dataset, run, name), there in versions.items():
            wanted = self._files.get(name, ())
            whole = [version for version, paths in there.items() if wanted and wanted[0] in paths]
            paths = there[max(whole)] if whole else {}
            found |= {(dataset, run, name, file): paths[file] for file in wanted if file in paths}
        return found

    def _exists(self) -> bool:
        return True
