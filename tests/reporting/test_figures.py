import matplotlib.pyplot as plt
import pandas as pd
import pytest

from mulcot_rd.reporting.drawing import note_figure
from mulcot_rd.reporting.figures import (
    LOSS_WEIGHTS,
    efficiency_figure,
    flan_t5_figure,
    interval_figure,
    loss_weights_figure,
    training_curves,
)
from mulcot_rd.reporting.histories import LossHistory
from mulcot_rd.reporting.runs import ModelCost, PromptCost, RunInfo, RunMetrics
from mulcot_rd.reporting.sources import source_of

pytestmark = pytest.mark.usefixtures("no_warnings")


def make_run(arch: int, dataset: str = "sample", scale: str = "tiny", variant: str = "full", **parts) -> RunMetrics:
    name = f"arch{arch}-{scale}-{variant}"
    cost = PromptCost(
        tflops=1e-4, latency_ms_median=50, latency_ms_p90=60, posts=5, memory_gb=0.5, memory_of="process, resident"
    )
    role_cost = ModelCost(
        model="tiny",
        device="Some CPU",
        dtype="float32",
        parameters=10**6,
        trainable_parameters=10**5,
        trainable_percent=10.0,
        prompts={"label": cost, "reasoning": cost.model_copy(update={"latency_ms_median": 900})},
    )
    scores = {"accuracy": 0.6, "weighted_f1": 0.58, "macro_f1": 0.5, "intervals": {"accuracy": [0.5, 0.7]}}
    info = RunInfo(dataset=dataset, run=name, arch=arch, scale=scale, variant=variant, seed=42)
    return RunMetrics(
        run=info,
        **{"teacher": scores, "assistant": scores, "student": {**scores, "accuracy": 0.55}, **parts},
        efficiency={"assistant": role_cost, "student": role_cost},
    )


def words(figure) -> str:
    titles = [figure.get_suptitle()]
    for panel in figure.axes:
        titles += [panel.get_title(), *(text.get_text() for text in panel.texts)]
        titles += [label.get_text() for label in panel.get_xticklabels()]
    titles += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join(titles)


def fits(figure) -> bool:
    """Whether every panel, title and legend lies within the figure."""
    figure.draw_without_rendering()
    boxes = [panel.get_tightbbox() for panel in figure.axes] + [each.get_window_extent() for each in figure.legends]
    whole = figure.bbox.padded(2)
    return all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)


def test_figure_3_draws_published_points_hollow_and_measured_ones_filled():
    figure = efficiency_figure([make_run(4), make_run(4, variant="no_image")])
    assert fits(figure)
    assert [panel.get_title() for panel in figure.axes] == [
        name for name in ("mvsa_single", "twitter2015", "sample") for _ in range(3)
    ]
    printed = figure.axes[4].lines
    assert all(line.get_fillstyle() == "none" for line in printed)
    # Section 4.5: Qwen3-VL-2B and Emotion-LLaMA on Twitter-2015, with Table 12's latencies.
    points = {(line.get_xdata()[0], line.get_ydata()[0]) for line in printed}
    assert {(8710.76, 80.4), (11582.16, 73.9)} <= points
    assert (15.83, 80.8) in {(line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[5].lines}
    sizes, latencies, memories = figure.axes[6:]
    assert [line.get_ydata()[0] for line in sizes.lines] == pytest.approx([60, 55])
    assert {line.get_xdata()[0] for line in sizes.lines} == {0.001}
    assert {line.get_xdata()[0] for line in latencies.lines} == {900}
    assert {line.get_xdata()[0] for line in memories.lines} == {0.5}
    assert "tiny models have random initial weights" in words(figure)
    assert "measured on Some CPU" in words(figure)


def test_figure_3_without_runs_has_the_paper_s_points_alone():
    figure = efficiency_figure([])
    assert fits(figure)
    assert [len(panel.lines) for panel in figure.axes] == [6] * 6
    assert "nothing measured: kedro run measures a run" in words(figure)


def test_axes_of_few_points_have_several_whole_ticks_and_no_marker_on_an_edge():
    figure = efficiency_figure([make_run(4)])
    figure.draw_without_rendering()
    for panel in figure.axes:
        (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        assert sum(left <= tick <= right for tick in panel.get_xticks()) >= 2
        ticks = [tick for tick in panel.get_yticks() if bottom <= tick <= top]
        assert len(ticks) >= 2
        assert all(tick == round(tick) for tick in ticks)
        assert all(bottom < y < top for line in panel.lines for y in line.get_ydata())


def history(weights, role="assistant", run="arch4-tiny", source="tiny models", made_from="") -> LossHistory:
    rows = [{"step": step, "reasoning_loss": 3 / step, "label_loss": weights[1] / step} for step in (1, 2, 3)]
    return LossHistory("sample", run, role, source, weights, rows, made_from)


def test_figure_5_has_a_line_a_weighting_and_a_panel_a_task():
    figure = loss_weights_figure(
        [history(weights) for weights in LOSS_WEIGHTS] + [history((0.8, 0.2), run="arch1-tiny")]
    )
    assert fits(figure)
    reasoning, label = figure.axes
    assert [line.get_label() for line in label.lines] == ["{0.8, 0.2}", "{0.5, 0.5}", "{0.2, 0.8}"]
    assert label.lines[2].get_ydata().tolist() == pytest.approx([0.8, 0.4, 0.8 / 3])
    assert reasoning.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert "tiny models" in words(figure)


def test_figure_5_has_no_lines_of_other_trainings_in_a_panel():
    others = [history(weights, made_from="at another rate") for weights in LOSS_WEIGHTS[1:]]
    figure = loss_weights_figure([history(LOSS_WEIGHTS[0]), *others])
    (reasoning, _) = figure.axes
    assert [line.get_label() for line in reasoning.lines] == ["{0.8, 0.2}: no run", "{0.5, 0.5}", "{0.2, 0.8}"]


def test_figure_5_says_which_weighting_was_not_run():
    figure = loss_weights_figure([history((0.8, 0.2)), history((0.8, 0.2), role="student"), history((0.0, 1.0))])
    assert len(figure.axes) == 4
    assert [line.get_label() for line in figure.axes[0].lines][1:] == ["{0.5, 0.5}: no run", "{0.2, 0.8}: no run"]
    assert figure.get_supxlabel().splitlines()[1:] == [
        f"kedro run --params dataset=sample,arch=4,scale=tiny,variant=weights_{name}" for name in ("50_50", "80_20")
    ]
    assert fits(figure)
    assert "No model has been trained yet: kedro run trains one" in words(loss_weights_figure([]))


@pytest.mark.parametrize(
    ("number", "name", "height"), [(7, "Accuracy", 55), (8, "Weighted F1", 58), (9, "Macro F1", 50)]
)
def test_figures_7_to_9_are_of_the_flan_t5_architecture(number, name, height):
    figure = flan_t5_figure(
        number, [make_run(4), make_run(5), make_run(5, "twitter2015"), make_run(5, variant="no_cot")]
    )
    assert fits(figure)
    (panel,) = figure.axes
    assert name in figure.get_suptitle()
    assert "random initial weights" in panel.get_title()
    assert [label.get_text() for label in panel.get_xticklabels()] == ["sample", "twitter2015"]
    drawn = [bar.get_height() for bar in panel.patches if bar.get_height()]
    assert len(drawn) == 6
    assert drawn[-1] == pytest.approx(height)


def test_figures_7_to_9_leave_out_what_was_not_measured():
    figure = flan_t5_figure(8, [make_run(5, teacher={}, assistant={})])
    assert len([bar for bar in figure.axes[0].patches if bar.get_height()]) == 1
    assert "No run of architecture 5 is on disk: kedro run --params arch=5 makes one" in words(
        flan_t5_figure(9, [make_run(4)])
    )


def test_a_note_may_hold_anything():
    figure = note_figure("$T$ _x_", "50% of $x$")
    assert fits(figure)
    assert "50% of $x$" in words(figure)


def test_training_curves_draw_what_was_measured(tmp_path):
    history = [
        {
            "role": role,
            "epoch": step // 2,
            "step": step,
            "label_loss": 1 / step,
            "reasoning_loss": 3 / step,
            "validation_score": 0.5 if step % 2 == 0 else None,
        }
        for role in ("assistant", "student")
        for step in (3, 1, 2, 4)
    ]
    figure = training_curves(history, "arch4-tiny-full", source_of("tiny"), {"assistant": 2, "student": 1})
    assert len(figure.axes) == 4
    losses, scores = figure.axes[:2]
    assert [line.get_xdata().tolist() for line in losses.lines[:2]] == [[1, 2, 3, 4]] * 2
    # Epoch 2 ends with step 4.
    assert [list(panel.lines[-1].get_xdata()) for panel in figure.axes] == [[4, 4], [4, 4], [2, 2], [2, 2]]
    assert "kept: epoch 2" in [text.get_text() for text in scores.get_legend().get_texts()]
    assert losses.lines[0].get_ydata().tolist() == pytest.approx([3, 1.5, 1, 0.75])
    assert scores.lines[0].get_xdata().tolist() == [2, 4]
    assert "tiny model" in figure.get_suptitle()
    figure.savefig(tmp_path / "curves.png", dpi=50)
    with pytest.raises(ValueError, match="no training history"):
        training_curves([], "r", "tiny")


def test_rewards_and_lengths_have_panels_of_their_own():
    curves = {"chosen_reward": 0.2, "rejected_reward": -0.3, "reward_margin": 0.5, "reasoning_loss": 1.0}
    history = [
        {"role": "student", "epoch": 1, "step": 1, "label_loss": 1.0, "reasoning_loss": 1.0, "validation_score": 0.5},
        *(
            {"role": "student_preference", "epoch": 1, "step": step, "validation_score": None, **curves}
            for step in (1, 2)
        ),
        {"role": "student_preference", "epoch": 1, "step": 2, "validation_score": 0.5, "reasoning_words": 60.0},
    ]
    kept = {"student": 1, "student_preference": 1}
    figure = training_curves(history, "arch4-tiny-preference", source_of("tiny"), kept)
    assert fits(figure)
    rewards, lengths = figure.axes[4:]
    assert {line.get_label(): line.get_ydata().tolist() for line in rewards.lines} == {
        "chosen": [0.2, 0.2], "rejected": [-0.3, -0.3], "margin": [0.5, 0.5],
    }  # fmt: skip
    assert lengths.lines[0].get_ydata().tolist() == [60.0]
    assert "student_preference: rewards" in words(figure)


def test_intervals_are_drawn_around_the_scores(tmp_path):
    scores = pd.DataFrame(
        {
            "dataset": ["sample", "sample", "cafe"],
            "method": ["student", "assistant", "student"],
            "run": ["a", "b", "c"],
            "source": ["measured", "measured (tiny model, random initial weights)", "measured"],
            "metric": "accuracy",
            "value": [70.0, 50.0, 20.0],
            "low": [60.0, float("nan"), 10.0],
            "high": [80.0, float("nan"), 30.0],
        }
    )
    figure = interval_figure(scores, "sample", "accuracy")
    figure.savefig(tmp_path / "figure.png", dpi=20)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b, assistant", "a, student"]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == set(scores["source"][:2])
    with pytest.raises(ValueError, match="no run on cafe has bleu"):
        interval_figure(scores, "cafe", "bleu")
    assert not plt.get_fignums()
