"""Figures of the reports, each as a picture and as vectors."""

import base64
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mulcot_rd.datasets.previews import ImagePreview
from mulcot_rd.datasets.versioned import Content, VersionedDataset
from mulcot_rd.extras import extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FigureDataset(VersionedDataset["Figure", bytes]):
    """One figure as files of the same name: ``.png`` to look at, 150 dots an inch, and ``.svg`` to print.

    Example:
        .. code-block:: yaml

            figure_3:
              type: mulcot_rd.datasets.FigureDataset
              filepath: data/08_reporting/figures/figure_3

        >>> from matplotlib.figure import Figure
        >>> dataset = FigureDataset(filepath=tmp_path / "figure_3")
        >>> dataset.save(Figure())
        >>> dataset.load()[1:4]
        b'PNG'
    """

    _endings = (".svg", ".png")

    def load(self) -> bytes:
        """The picture's file."""
        return self._fs.cat_file(f"{self._get_load_path()}.png")

    def preview(self) -> ImagePreview:
        """The picture, for kedro-viz."""
        return ImagePreview(base64.b64encode(self.load()).decode())

    def _content(self, data: "Figure") -> Content:
        # Imported here: who draws nothing needs no matplotlib.
        with extra("report"):
            import matplotlib as mpl
            from matplotlib import pyplot as plt

        formats: dict[str, dict[str, Any]] = {".svg": {"metadata": {"Date": None}}, ".png": {"dpi": 150}}
        files = {}
        # Without a date and with names that depend on nothing, equal figures are equal files.
        with mpl.rc_context({"svg.hashsalt": "figure"}):
            for ending, how in formats.items():
                buffer = BytesIO()
                data.savefig(buffer, format=ending[1:], **how)
                files[ending] = buffer.getvalue()
        plt.close(data)
        return files
