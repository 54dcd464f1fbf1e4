import pytest

from mulcot_rd.reporting.figures import training_curves
from mulcot_rd.reporting.tables import source_of

pytestmark = pytest.mark.usefixtures("no_warnings")


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
    figure = training_curves(history, "arch4-tiny-full", source_of("tiny"))
    assert len(figure.axes) == 4
    losses, scores = figure.axes[:2]
    assert [line.get_xdata().tolist() for line in losses.lines] == [[1, 2, 3, 4]] * 2
    assert losses.lines[0].get_ydata().tolist() == pytest.approx([3, 1.5, 1, 0.75])
    assert scores.lines[0].get_xdata().tolist() == [2, 4]
    assert "tiny model" in figure.get_suptitle()
    figure.savefig(tmp_path / "curves.png", dpi=50)
    with pytest.raises(ValueError, match="no training history"):
        training_curves([], "r", "tiny")
