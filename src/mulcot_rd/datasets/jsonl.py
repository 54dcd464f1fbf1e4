"""JSONL files of records."""

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro.utils import load_obj
from pydantic import BaseModel, ValidationError

from mulcot_rd.datasets.previews import JSONPreview
from mulcot_rd.files import locked, write_text


class JSONLinesDataset(AbstractDataset[list[BaseModel], list[BaseModel]]):
    """A JSONL file in which every row is a record of one pydantic class.

    Rows are checked when they are loaded, the file is replaced in one step when it is saved.

    Example:
        .. code-block:: yaml

            teacher_reasoning:
              type: mulcot_rd.datasets.JSONLinesDataset
              filepath: data/05_model_input/sample/teacher_reasoning.jsonl
              record: mulcot_rd.schema.TeacherRecord
    """

    def __init__(
        self, *, filepath: str, record: str, merge_by: str | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        """Name the file and the class of its rows.

        Args:
            filepath: Path of the file.
            record: Import path of the rows' pydantic class.
            merge_by: Field that names a row. Saving then keeps the rows whose name the new ones lack: for a file that
                several runs write their share of.
            metadata: Anything; kedro-viz reads its part.
        """
        self._filepath = Path(filepath)
        self._record: type[BaseModel] = load_obj(record)
        self._merge_by = merge_by
        self.metadata = metadata

    def load(self) -> list[BaseModel]:
        """All rows, in order.

        Raises:
            DatasetError: If a row is not JSON or not such a record; the message names file and line.
        """
        records = []
        with self._filepath.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    records.append(self._record(**json.loads(line)))
                except (ValidationError, ValueError, TypeError) as error:
                    raise DatasetError(
                        f"line {number} of {self._filepath} is not a {self._record.__name__} ({error}): "
                        "correct the line or delete the file and run the pipeline that writes it"
                    ) from error
        return records

    def save(self, data: list[BaseModel]) -> None:
        """Replace the file by these rows, and by those of its own that are kept."""
        if self._merge_by is None:
            self._write(data)
            return
        # Between reading the rows that are kept and writing them, no other run may add any.
        with locked(self._filepath):
            names = {getattr(record, self._merge_by) for record in data}
            there = self.load() if self._exists() else []
            self._write([*data, *(record for record in there if getattr(record, self._merge_by) not in names)])

    def _write(self, data: list[BaseModel]) -> None:
        rows = (json.dumps(record.model_dump(mode="json"), ensure_ascii=False) for record in data)
        write_text(self._filepath, "".join(f"{row}\n" for row in rows))

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "record": self._record.__name__}

    def preview(self, rows: int = 5) -> JSONPreview:
        """The first rows, for kedro-viz."""
        with self._filepath.open(encoding="utf-8") as stream:
            head = [json.loads(line) for _, line in zip(range(rows), stream, strict=False)]
        return JSONPreview(json.dumps(head, ensure_ascii=False))
