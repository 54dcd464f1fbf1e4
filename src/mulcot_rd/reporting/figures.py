"""Plots of the reports: training curves, scores with intervals, and the paper's Figures 3, 5 and 7 to 9."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mulcot_rd.numbers import number_text
from mulcot_rd.reporting.drawing import COLOURS, GREY, MARKERS, blank_figure, note_figure, whole_ticks
from mulcot_rd.reporting.histories import LossHistory
from mulcot_rd.reporting.published import published_rows
from mulcot_rd.reporting.runs import RunMetrics

# Figure 3 and Appendix H: the models of Tables 11 and 12 as they stand in Tables 3, 4 and 7, taught by Qwen2.5-VL-72B.
_TEACHER = "teacher Qwen2.5-VL-72B"
_ACCURACY_OF = {
    "Qwen2.5-VL-72B": "Qwen2.5-VL-72B*",
    "Emotion-LLaMA": "Emotion-LLaMA",
    "Qwen3-VL-8B": f"MulCoT-RD(asst, Qwen3-VL-8B), {_TEACHER}",
    "Qwen3-VL-2B": f"MulCoT-RD(stu, Qwen3-VL-2B), {_TEACHER}",
    "Qwen2.5-VL-7B": f"MulCoT-RD(asst), {_TEACHER}",
    "Qwen2.5-VL-3B": f"MulCoT-RD(stu), {_TEACHER}",
}
# What it shows of a prediction, as Tables 11 and 12 have it, and its axis.
_COSTS = {"parameters_billion": "parameters (10⁹)", "latency_ms": "latency (ms)", "memory_gb": "memory (GB)"}
_PRINTED = {"mvsa_single": (11, (3, 7)), "twitter2015": (12, (4, 7))}
# Figure 5: {reasoning, label}, as the paper writes its weights.
LOSS_WEIGHTS = ((0.8, 0.2), (0.5, 0.5), (0.2, 0.8))
# Figures 7 to 9 are of the Flan-T5 architecture (Appendix G).
FLAN_T5_ARCHITECTURE = 5
_SCORE_FIGURES = {7: ("accuracy", "Accuracy"), 8: ("weighted_f1", "Weighted F1"), 9: ("macro_f1", "Macro F1")}
# What makes the runs that a figure lacks.
_COMMAND = "kedro run"
_LOSSES = {"reasoning_loss": ("reasoning", "#0072b2"), "label_loss": ("label", "#e69f00")}
_REWARDS = {
    "chosen_reward": ("chosen", "#0072b2"),
    "rejected_reward": ("rejected", "#d55e00"),
    "reward_margin": ("margin", "#000000"),
}
_WORDS = "reasoning_words"
# What of a training history is drawn, beside the scores.
CURVES = (*_LOSSES, *_REWARDS, _WORDS)


def training_curves(
    history: Sequence[Mapping[str, Any]], run: str, source: str, kept: Mapping[str, int] | None = None
) -> Figure:
    """Draw the training history of assistant and student, a row of panels each (compare the paper's Figure 5).

    Args:
        history: Rows with ``role``, ``epoch``, ``step`` (optimiser steps), ``validation_score`` (fraction) and
            :data:`CURVES`: losses (nats a target token), rewards (nats) and words of a reasoning; what a row did not
            measure is ``None``. A role with rewards gets a row of panels for them.
        run: Name of the run, for the title.
        source: How numbers of the models are named (:func:`~mulcot_rd.reporting.sources.source_of`), for the title.
        kept: Role to the epoch whose weights were kept, counted from 1; it is marked.

    Returns:
        A figure that needs no display; save it at 150 dpi.

    Raises:
        ValueError: If the history is empty.
    """
    if len(history) == 0:
        raise ValueError(f"run {run} has no training history to draw: run a training pipeline first")
    roles = list(dict.fromkeys(row["role"] for row in history))
    by_role = {
        role: sorted((row for row in history if row["role"] == role), key=lambda row: row["step"]) for role in roles
    }
    rewarded = [role for role, rows in by_role.items() if any(row.get("reward_margin") is not None for row in rows)]
    figure, panels = blank_figure(len(roles) + len(rewarded), 2, width=11, height=3.1)
    figure.suptitle(f"{run}: {source}", fontsize=12, parse_math=False)
    for role, (rewards, lengths) in zip(rewarded, panels[len(roles) :], strict=True):
        for key, (name, colour) in _REWARDS.items():
            rewards.plot(*_points(by_role[role], key), color=colour, label=name, linewidth=1.4)
        rewards.set(title=f"{role}: rewards of training pairs", xlabel="optimiser step", ylabel="reward (nats)")
        rewards.legend(frameon=False)
        lengths.plot(*_points(by_role[role], _WORDS), color=COLOURS[2], linewidth=1.4, marker="o", markersize=4)
        lengths.set(title=f"{role}: length of dev reasonings", xlabel="optimiser step", ylabel="words")
        lengths.set_ylim(bottom=0)
    for role, (losses, scores) in zip(roles, panels, strict=False):
        rows = by_role[role]
        for key, (name, colour) in _LOSSES.items():
            losses.plot(*_points(rows, key), color=colour, label=name, linewidth=1.4, marker=".", markersize=4)
        losses.set(title=f"{role}: training loss", xlabel="optimiser step", ylabel="loss (nats per target token)")
        losses.set_ylim(bottom=0)
        # A score of 1 lies on the edge: its marker is drawn whole.
        look = {"color": COLOURS[2], "linewidth": 1.4, "marker": "o", "markersize": 4, "clip_on": False}
        scores.plot(*_points(rows, "validation_score"), **look)
        scores.set(title=f"{role}: validation score", xlabel="optimiser step", ylabel="score", ylim=(0, 1))
        epoch = (kept or {}).get(role)
        end = [row["step"] for row in rows if row["epoch"] == epoch and row["validation_score"] is not None]
        for panel in (losses, scores):
            whole_ticks(panel.xaxis)
            if end:
                panel.axvline(end[0], color=GREY, linewidth=1, linestyle="--", label=f"kept: epoch {epoch}")
        # The line of the kept epoch does not strike the words through.
        losses.legend(loc="upper right", edgecolor="none", framealpha=0.9)
        scores.legend(loc="lower right", edgecolor="none", framealpha=0.9)
    return figure


def interval_figure(scores: pd.DataFrame, dataset: str, metric: str) -> Figure:
    """One metric of every run on a data set, with the 95 percent interval of each.

    Args:
        scores: The table ``table_scores``: columns method, run, source, dataset, metric, value, low, high (percent).
        dataset: Name of the data set.
        metric: Name of the metric, such as ``accuracy``.

    Returns:
        A figure that needs no display; its legend names the sources, so that tiny models are told from others.

    Raises:
        ValueError: If no run has that metric on that data set.
    """
    rows = scores[(scores["dataset"] == dataset) & (scores["metric"] == metric)].iloc[::-1]
    if rows.empty:
        raise ValueError(f"no run on {dataset} has {metric}: run the pipelines evaluation and reporting first")
    figure, ((axes,),) = blank_figure(1, 1, width=9, height=0.8 + 0.32 * len(rows))
    places = pd.Series(range(len(rows)), index=rows.index)
    for number, (source, of_source) in enumerate(rows.groupby("source", sort=False)):
        # A score without an interval is drawn as a point alone.
        ends = of_source[["low", "high"]].astype(float)
        reach = [(of_source["value"] - ends["low"]).fillna(0), (ends["high"] - of_source["value"]).fillna(0)]
        axes.errorbar(
            of_source["value"], places[of_source.index], xerr=reach, fmt="o", capsize=3, markersize=5,
            color=COLOURS[number % len(COLOURS)], label=source,
        )  # fmt: skip
    axes.set_yticks(places, [f"{run}, {method}" for run, method in zip(rows["run"], rows["method"], strict=True)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set(xlabel=f"{metric}, percent, with 95 percent interval", title=dataset)
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", frameon=False, fontsize=8)
    return figure


def efficiency_figure(runs: Sequence[RunMetrics]) -> Figure:
    """Figure 3: accuracy against parameters, latency and memory at batch size 1, a row of panels a data set.

    Published points are hollow. Measured ones, of runs of the whole method with an ``efficiency.json``, are filled;
    latency and memory are those of the reasoning prompt where there is one, on the device at hand.
    """
    measured = [run for run in runs if run.efficiency and run.run.variant == "full"]
    datasets = list(dict.fromkeys([*_PRINTED, *(run.run.dataset for run in measured)]))
    colours = dict(zip(dict.fromkeys(run.run.run for run in measured), cycle(COLOURS), strict=False))
    figure, panels = blank_figure(len(datasets), len(_COSTS), width=14.5, height=2.9)
    devices = dict.fromkeys(cost.device for run in measured for cost in run.efficiency.values())
    remarks = [f"measured on {', '.join(devices)}"] if devices else []
    if any(run.run.scale == "tiny" for run in measured):
        remarks.append("tiny models have random initial weights")
    remarks += [f"{run.run.run}: {', '.join(run.run.checkpoints)}" for run in measured if run.run.checkpoints]
    filled = f"filled: {'; '.join(remarks)}" if remarks else f"nothing measured: {_COMMAND} measures a run"
    remark = f"\nhollow: published; {filled}"
    figure.suptitle(f"Figure 3: accuracy against size, latency and memory of one prediction{remark}", fontsize=11)
    for dataset, row in zip(datasets, panels, strict=True):
        _draw_published_costs(row, dataset)
        _draw_measured_costs(row, [run for run in measured if run.run.dataset == dataset], colours)
        for panel, what in zip(row, _COSTS.values(), strict=True):
            panel.set(title=dataset, xlabel=what, ylabel="accuracy (percent)", xscale="log")
            panel.margins(y=0.15)
            _plain_log_axis(panel)
            whole_ticks(panel.yaxis)
    handles: dict[str, Any] = {}
    for panel in panels[:, 0]:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, fontsize=8)
    return figure


def loss_weights_figure(histories: Sequence[LossHistory]) -> Figure:
    """Figure 5: the loss of each task over the steps, a line a weighting of the tasks, a row a model.

    A row has lines of trainings that differ in their weights alone.
    Shown are the models that were trained with several weightings; where there is none, those of the first run.
    """
    groups: dict[tuple[str, str, str, str, str], dict[tuple[float, float], LossHistory]] = defaultdict(dict)
    for history in histories:
        if history.weights in LOSS_WEIGHTS:
            key = history.dataset, history.run, history.role, history.source, history.made_from
            groups[key][history.weights] = history
    compared = {key: group for key, group in groups.items() if len(group) > 1}
    first = next(iter(groups), None)
    shown = compared or {key: group for key, group in groups.items() if first and key[:2] == first[:2]}
    if not shown:
        return note_figure("Figure 5: loss weights", f"No model has been trained yet: {_COMMAND} trains one.")
    figure, panels = blank_figure(len(shown), 2, width=11, height=3.2)
    figure.suptitle("Figure 5: loss of both tasks by their weights {reasoning, label}", fontsize=12)
    missing = dict[str, None]()
    for (key, group), row in zip(shown.items(), panels, strict=True):
        dataset, run, role, source, _ = key
        arch, _, scale = run.removeprefix("arch").partition("-")
        for panel, task in zip(row, ("reasoning", "label"), strict=True):
            for weights, colour in zip(LOSS_WEIGHTS, COLOURS, strict=False):
                name = f"{{{weights[0]:g}, {weights[1]:g}}}"
                if weights not in group:
                    panel.plot([], [], color=colour, linestyle=":", label=f"{name}: no run")
                    chosen = f"dataset={dataset},arch={arch},scale={scale},variant={_variant(weights)}"
                    missing[f"{_COMMAND} --params {chosen}"] = None
                    continue
                points = [(each["step"], each[f"{task}_loss"]) for each in group[weights].rows]
                points = [point for point in points if point[1] is not None]
                panel.plot(*zip(*points, strict=True) if points else ([], []), color=colour, label=name, linewidth=1.3)
            title = f"{dataset}, {run}, {role}: {task} loss\n{source}"
            panel.set_title(title, fontsize=9, parse_math=False)
            panel.set(xlabel="optimiser step", ylabel="nats per target token")
            panel.set_ylim(bottom=0)
            whole_ticks(panel.xaxis)
            panel.legend(frameon=False, fontsize=8)
    if missing:
        lines = "\n".join(("Weights without a run get one by", *missing))
        figure.supxlabel(lines, fontsize=8, color=GREY, parse_math=False)
    return figure


def _variant(weights: tuple[float, float]) -> str:
    """The variant with these weights of reasoning and label; its name has them in percent, label first."""
    reasoning, label = (f"{100 * weight:.0f}" for weight in weights)
    return "full" if weights == LOSS_WEIGHTS[0] else f"weights_{label}_{reasoning}"


def flan_t5_figure(number: int, runs: Sequence[RunMetrics]) -> Figure:
    """Figure 7, 8 or 9: one score of teacher, assistant and student of the Flan-T5 architecture, a panel a run.

    The paper prints no numbers in these figures, so that there is nothing published to draw.
    """
    metric, name = _SCORE_FIGURES[number]
    title = f"Figure {number}: {name} of teacher, assistant and student (Flan-T5, architecture {FLAN_T5_ARCHITECTURE})"
    by_run: dict[tuple[str, str], list[RunMetrics]] = defaultdict(list)
    for run in runs:
        if run.run.arch == FLAN_T5_ARCHITECTURE and run.run.variant == "full":
            by_run[run.run.run, run.run.source].append(run)
    if not by_run:
        command = f"{_COMMAND} --params arch={FLAN_T5_ARCHITECTURE}"
        return note_figure(title, f"No run of architecture {FLAN_T5_ARCHITECTURE} is on disk: {command} makes one.")
    figure, panels = blank_figure(len(by_run), 1, width=9, height=3.4)
    figure.suptitle(title, fontsize=11)
    for ((run_name, source), members), (panel,) in zip(by_run.items(), panels, strict=True):
        for offset, (role, colour) in enumerate(zip(("teacher", "assistant", "student"), COLOURS, strict=False)):
            _draw_bars(panel, members, role, metric, 0.26 * (offset - 1), colour)
        panel.set_xticks(range(len(members)), [run.run.dataset for run in members])
        # Bars of one width, in the middle, however few data sets there are.
        middle, half = (len(members) - 1) / 2, max(len(members), 3) / 2
        panel.set_xlim(middle - half, middle + half)
        panel.grid(visible=False, axis="x")
        panel.set_title(f"{run_name}: {source}", fontsize=9, parse_math=False)
        panel.set(ylabel=f"{name} (percent)", ylim=(0, 108))
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return figure


def _draw_published_costs(panels: Sequence[Axes], dataset: str) -> None:
    if dataset not in _PRINTED:
        return
    table, accuracy_tables = _PRINTED[dataset]
    costs = published_rows(dataset, (table,)).set_index("method")
    accuracies = published_rows(dataset, accuracy_tables).set_index("method")["accuracy"]
    for (model, method), marker in zip(_ACCURACY_OF.items(), MARKERS, strict=True):
        look: dict[str, Any] = {"marker": marker, "color": GREY, "fillstyle": "none", "linestyle": "", "markersize": 8}
        for panel, cost in zip(panels, _COSTS, strict=True):
            panel.plot(costs.loc[model, cost], accuracies[method], label=f"{model}, published", **look)


def _draw_measured_costs(panels: Sequence[Axes], runs: Sequence[RunMetrics], colours: Mapping[str, str]) -> None:
    for run in runs:
        for (role, cost), marker in zip(run.efficiency.items(), cycle(MARKERS), strict=False):
            if role not in run.models:
                continue
            # An edge and some transparency: equal points lie over each other.
            look: dict[str, Any] = {
                "color": colours[run.run.run],
                "marker": marker,
                "linestyle": "",
                "markersize": 7,
                "alpha": 0.75,
            }
            look |= {"markeredgecolor": "white", "markeredgewidth": 0.8}
            prompt = cost.prompts.get("reasoning") or next(iter(cost.prompts.values()))
            accuracy = 100 * run.models[role]["accuracy"]
            costs = (cost.parameters / 1e9, prompt.latency_ms_median, prompt.memory_gb)
            for panel, measured in zip(panels, costs, strict=True):
                panel.plot(measured, accuracy, label=f"{run.run.run}, {role}", **look)


def _plain_log_axis(panel: Axes) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, or fewer over a wide range or of long numbers, written as plain numbers.

    At least a power of ten is shown: a narrower axis would have one tick, or none.
    """
    low, high = panel.get_xlim()
    around = max(1.4, (10 * low / high) ** 0.5)
    panel.set_xlim(low / around, high * around)
    between = (1, 3) if low < 0.01 else (1, 2, 5)
    panel.xaxis.set_major_locator(LogLocator(subs=between if high / low < 300 else (1,)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    measured = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return [step for step, _ in measured], [value for _, value in measured]


def _draw_bars(panel: Axes, runs: Sequence[RunMetrics], role: str, metric: str, offset: float, colour: str) -> None:
    for position, run in enumerate(runs):
        scores = run.teacher if role == "teacher" else run.models.get(role, {})
        if scores.get(metric) is None:
            continue
        height = 100 * scores[metric]
        low, high = (100 * end for end in scores.get("intervals", {}).get(metric, (scores[metric],) * 2))
        # A percentile interval may leave the score out by a hair.
        error = [[max(0.0, height - low)], [max(0.0, high - height)]]
        panel.bar(position + offset, height, 0.24, color=colour, yerr=error, capsize=3, error_kw={"linewidth": 1})
        panel.text(position + offset, max(height, high) + 1.5, number_text(height), ha="center", fontsize=8)
    panel.bar(0, 0, color=colour, label=role)
