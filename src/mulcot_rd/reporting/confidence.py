"""The figure of how far the probabilities of a run's models can be trusted."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mulcot_rd.reporting.drawing import COLOURS, GREY, MARKERS, blank_figure, note_figure, whole_ticks


def confidence_figure(calibration: Mapping[str, Mapping[str, Any] | None], run: str, source: str) -> Figure:
    """Draw the reliability of each model's probabilities, and the accuracy of its surest posts; the paper has none.

    Args:
        calibration: Model to what :func:`mulcot_rd.metrics.calibration.confidence_scores` says of the test split, under
            ``calibrated`` and ``uncalibrated``; ``None`` for a model without probabilities.
        run: Name of the run, for the title.
        source: How numbers of the models are named, for the title.
    """
    models = {name: scores for name, scores in calibration.items() if scores is not None}
    if not models:
        none = "No model of this run has probabilities of labels."
        unknown = "No probabilities yet: kedro run --pipeline evaluation, with the --params of this run, finds them."
        return note_figure(run, none if calibration else unknown)
    figure, panels = blank_figure(len(models), 2, width=11, height=3.4)
    figure.suptitle(f"{run}: {source}", fontsize=12, parse_math=False)
    for (name, scores), (reliability, coverage) in zip(models.items(), panels, strict=True):
        _draw_reliability(reliability, scores)
        reliability.set_title(f"{name}: reliability")
        shares = scores["calibrated"]["accuracy_by_coverage"]
        left = [100 * (1 - float(share)) for share in shares]
        kept = [100 * accuracy for accuracy in shares.values()]
        coverage.plot(left, kept, color=COLOURS[2], marker="o", markersize=4)
        coverage.set(title=f"{name}: posts that are kept", xlabel="least sure posts left to a person (percent)")
        coverage.set(ylabel="accuracy (percent)", ylim=(min(95, *kept) - 1, 101))
        whole_ticks(coverage.yaxis)
    return figure


def _draw_reliability(panel: Axes, scores: Mapping[str, Any]) -> None:
    panel.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    names = {"uncalibrated": "temperature 1", "calibrated": f"temperature {scores['temperature']:.2f}"}
    for (kind, name), colour, marker in zip(names.items(), COLOURS, MARKERS, strict=False):
        bins, error = scores[kind]["reliability"], scores[kind]["expected_calibration_error"]
        confidence, accuracy = ([one[side] for one in bins] for side in ("confidence", "accuracy"))
        label = f"{name}, calibration error {error:.3f}"
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.4, "alpha": 0.8}
        panel.plot(confidence, accuracy, label=label, clip_on=False, **look)
    panel.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    panel.legend(frameon=False, loc="lower right")
