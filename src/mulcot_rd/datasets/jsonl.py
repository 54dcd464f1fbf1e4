"""JSONL files of records."""

import json
from typing import Any

from kedro.io import DatasetError
from kedro.utils import load_obj
from pydantic import BaseModel, ValidationError

from mulcot_rd.datasets.previews import JSONPreview
from mulcot_rd.datasets.versioned import Content, VersionedDataset
from mulcot_rd.files import local_path, locked


class JSONLinesDataset(VersionedDataset[list[BaseModel], list[BaseModel]]):
    """A JSONL file in which every row is a record of one pydantic class.

    Rows are checked when they are loaded, the file is saved in one step.

    Example:
        .. code-block:: yaml

            teacher_reasoning:
              type: mulcot_rd.datasets.JSONLinesDataset
              filepath: s3://bucket/05_model_input/sample/teacher_reasoning.jsonl
              record: mulcot_rd.schema.TeacherRecord
              versioned: true
              credentials: results

        >>> from mulcot_rd.schema import CaptionRecord
        >>> dataset = JSONLinesDataset(filepath=tmp_path / "captions.jsonl", record="mulcot_rd.schema.CaptionRecord")
        >>> dataset.save([CaptionRecord(image="a.jpg", caption="A dog.", model="by hand", attempts=1)])
        >>> dataset.load()[0].caption
        'A dog.'
    """

    def __init__(self, *, record: str, merge_by: str | None = None, **kwargs: Any) -> None:
        """Name the file and the class of its rows.

        Args:
            record: Import path of the rows' pydantic class.
            merge_by: Field that names a row. Saving then keeps the rows whose name the new ones lack: for a file that
                several runs write their share of. Such a file has no versions and is on a shared file system.
            kwargs: Of :class:`mulcot_rd.datasets.versioned.VersionedDataset`: ``filepath``, ``version``,
                ``credentials``, ``fs_args``, ``metadata``.

        Raises:
            UserError: If a file to merge into is a URL.
            ValueError: If it is to have versions.
        """
        super().__init__(**kwargs)
        self._record: type[BaseModel] = load_obj(record)
        self._merge_by = merge_by
        if merge_by is not None:
            self._shared = local_path(str(kwargs["filepath"]), "a file that runs write their share of")
            if self._version is not None:
                raise ValueError(f"{self._filepath}: runs share this file, so it has no versions: leave out versioned")

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "record": self._record.__name__, "merge_by": self._merge_by}

    def load(self) -> list[BaseModel]:
        """All rows, in order.

        Raises:
            DatasetError: If a row is not JSON or not such a record; the message names file and line.
        """
        path = self._get_load_path()
        records = []
        with self._fs.open(str(path), "rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    records.append(self._record(**json.loads(line)))
                except (ValidationError, ValueError, TypeError) as error:
                    raise DatasetError(
                        f"line {number} of {path} is not a {self._record.__name__} ({error}): "
                        "correct the line or delete the file and run the pipeline that writes it"
                    ) from error
        return records

    def save(self, data: list[BaseModel]) -> None:
        """Save a version with these rows; a file that runs share keeps its own, too."""
        if self._merge_by is None:
            super().save(data)
            return
        # Between reading the rows that are kept and writing them, no other run may add any.
        with locked(self._shared):
            names = {getattr(record, self._merge_by) for record in data}
            there = self.load() if self._exists() else []
            super().save([*data, *(record for record in there if getattr(record, self._merge_by) not in names)])

    def preview(self, rows: int = 5) -> JSONPreview:
        """The first rows, for kedro-viz."""
        with self._fs.open(str(self._get_load_path()), "rb") as stream:
            head = [json.loads(line) for _, line in zip(range(rows), stream, strict=False)]
        return JSONPreview(json.dumps(head, ensure_ascii=False))

    def _content(self, data: list[BaseModel]) -> Content:
        rows = (json.dumps(record.model_dump(mode="json"), ensure_ascii=False) for record in data)
        return {"": "".join(f"{row}\n" for row in rows).encode()}
