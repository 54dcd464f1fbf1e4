"""Verdicts on posts."""

from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from mulcot_rd.files import local_path
from mulcot_rd.prediction.verdicts_file import read_verdicts, write_verdicts


class VerdictsDataset(AbstractDataset[list[dict[str, Any]], pd.DataFrame]):
    """A file of verdicts, a row each: JSON lines, CSV or Parquet by its ending.

    Example:
        .. code-block:: yaml

            verdicts:
              type: mulcot_rd.datasets.VerdictsDataset
              filepath: data/07_model_output/sample/arch4-tiny-full/verdicts.jsonl

        >>> from mulcot_rd.prediction.verdicts_file import verdict_row
        >>> dataset = VerdictsDataset(filepath=str(tmp_path / "verdicts.csv"))
        >>> dataset.save([verdict_row("a", None, None, "line 2: empty text")])
        >>> dataset.load()["error"][0]
        'line 2: empty text'
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the file.

        Args:
            filepath: The file; answers are kept beside it, so it is no URL.
            metadata: Anything; kedro-viz reads its part.

        Raises:
            UserError: If it is a URL.
        """
        self._filepath = local_path(filepath, "verdicts")
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """The verdicts, a row each."""
        return read_verdicts(self._filepath)

    def save(self, data: list[dict[str, Any]]) -> None:
        """Write the rows in one step."""
        write_verdicts(data, self._filepath)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
