"""What figures share: colours, panels without a display, ticks."""

from typing import Any

from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Colours that stay apart in print and for the colour-blind (Okabe and Ito), and more for many runs.
COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000"),
    *("#8c564b", "#9467bd", "#bcbd22"),
)
GREY = "#6b6b70"
MARKERS = "osD^vP"


def blank_figure(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, Any]:
    """A figure that needs no display, and its panels, row by row."""
    figure = Figure(figsize=(width, 0.6 + height * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.grid(alpha=0.25)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def note_figure(title: str, note: str) -> Figure:
    """An empty panel that says why it is empty."""
    figure, ((panel,),) = blank_figure(1, 1, width=8, height=1.2)
    figure.suptitle(title, fontsize=11, parse_math=False)
    panel.set_axis_off()
    where = {"ha": "center", "va": "center", "transform": panel.transAxes}
    panel.text(0.5, 0.5, note, **where, color=GREY, parse_math=False, wrap=True)
    return figure


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers, in steps of 1, 2 or 5 times a power of ten."""
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
