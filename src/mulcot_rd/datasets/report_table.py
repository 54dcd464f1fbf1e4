"""Tables of the reports, each as Markdown, CSV and LaTeX."""

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from mulcot_rd.datasets.previews import TablePreview
from mulcot_rd.reporting.writers import ReportTable, write_table


class ReportTableDataset(AbstractDataset[ReportTable, pd.DataFrame]):
    """One table as files of the same name: ``.md`` to read, ``.csv`` to compute with, ``.tex``.

    Example:
        .. code-block:: yaml

            table_3:
              type: mulcot_rd.datasets.ReportTableDataset
              filepath: data/08_reporting/tables/table_3
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the files.

        Args:
            filepath: Their path without ending.
            metadata: Anything; kedro-viz reads its part.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """The table, from its CSV."""
        return pd.read_csv(self._filepath.with_name(f"{self._filepath.name}.csv"))

    def save(self, data: ReportTable) -> None:
        """Write the files."""
        write_table(data, self._filepath.parent, self._filepath.name)

    def _exists(self) -> bool:
        return self._filepath.with_name(f"{self._filepath.name}.csv").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

    def preview(self) -> TablePreview:
        """The table, for kedro-viz."""
        frame = self.load().astype(object)
        return TablePreview(frame.where(frame.notna(), "").to_dict(orient="split"))
