"""Training curves: the loss of each task over the steps, and the validation score."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Two blues and an orange that stay apart in print and for the colour-blind (Okabe and Ito).
_LOSSES = {"reasoning_loss": ("reasoning", "#0072b2"), "label_loss": ("label", "#e69f00")}
_SCORE_COLOUR = "#009e73"


def training_curves(history: Sequence[Mapping[str, Any]], run: str, source: str) -> Figure:
    """Draw the training history of assistant and student, a row of panels each (compare the paper's Figure 5).

    Args:
        history: Rows with ``role``, ``epoch``, ``step`` (optimiser steps), ``label_loss``, ``reasoning_loss`` (nats a
            target token) and ``validation_score`` (fraction); what a row did not measure is ``None``.
        run: Name of the run, for the title.
        source: How the models' figures are named (:func:`~mulcot_rd.reporting.tables.source_of`), for the title.

    Returns:
        A figure that needs no display; save it at 150 dpi.

    Raises:
        ValueError: If the history is empty.
    """
    if len(history) == 0:
        raise ValueError(f"run {run} has no training history to draw: run a training pipeline first")
    roles = list(dict.fromkeys(row["role"] for row in history))
    figure = Figure(figsize=(11, 0.7 + 3.1 * len(roles)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{run}: {source}", fontsize=12, parse_math=False)
    panels = figure.subplots(len(roles), 2, squeeze=False)
    for role, (losses, scores) in zip(roles, panels, strict=True):
        rows = sorted((row for row in history if row["role"] == role), key=lambda row: row["step"])
        for key, (name, colour) in _LOSSES.items():
            losses.plot(*_points(rows, key), color=colour, label=name, linewidth=1.4, marker=".", markersize=4)
        losses.set(title=f"{role}: training loss", xlabel="optimiser step", ylabel="loss (nats per target token)")
        losses.set_ylim(bottom=0)
        losses.legend(title="task", frameon=False)
        scores.plot(*_points(rows, "validation_score"), color=_SCORE_COLOUR, linewidth=1.4, marker="o", markersize=4)
        scores.set(title=f"{role}: validation score", xlabel="optimiser step", ylabel="score", ylim=(0, 1))
        for panel in (losses, scores):
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
    return figure


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    measured = [(row["step"], row[key]) for row in rows if row[key] is not None]
    return [step for step, _ in measured], [value for _, value in measured]
