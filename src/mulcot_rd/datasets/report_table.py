"""Tables of the reports, each as Markdown, CSV and LaTeX."""

from io import BytesIO

import pandas as pd

from mulcot_rd.datasets.previews import TablePreview
from mulcot_rd.datasets.versioned import Content, VersionedDataset
from mulcot_rd.reporting.writers import ReportTable, table_texts


class ReportTableDataset(VersionedDataset[ReportTable, pd.DataFrame]):
    """One table as files of the same name: ``.md`` to read, ``.tex`` to print, ``.csv`` to compute with.

    The newest version lies at the path itself, too.

    Example:
        .. code-block:: yaml

            table_3:
              type: mulcot_rd.datasets.ReportTableDataset
              filepath: data/08_reporting/tables/table_3
              versioned: true

        >>> from mulcot_rd.reporting.writers import ReportTable
        >>> dataset = ReportTableDataset(filepath=tmp_path / "table_3")
        >>> dataset.save(ReportTable(pd.DataFrame({"method": ["ours"], "accuracy": [77.5]}), "A caption"))
        >>> dataset.load()["accuracy"].tolist()
        [77.5]
    """

    _endings = (".md", ".tex", ".csv")

    def load(self) -> pd.DataFrame:
        """The table, from its CSV."""
        return pd.read_csv(BytesIO(self._fs.cat_file(f"{self._get_load_path()}.csv")))

    def save(self, data: ReportTable) -> None:
        """Save a version, and let the files at the path be the same."""
        super().save(data)
        content = self._content(data)
        if self._read(self._filepath) != content:
            self._write(self._filepath, content)

    def preview(self) -> TablePreview:
        """The table, for kedro-viz, with as many decimals as any table on paper has."""
        frame = self.load().round(5).astype(object)
        return TablePreview(frame.where(frame.notna(), "").to_dict(orient="split"))

    def _content(self, data: ReportTable) -> Content:
        return {f".{kind}": text.encode() for kind, text in table_texts(data, self._filepath.name).items()}
