"""Preference pairs of every run: how many there are of which kind, and what tells chosen from rejected."""

from collections.abc import Sequence

import pandas as pd

from mulcot_rd.reporting.cells import percent
from mulcot_rd.reporting.runs import RunMetrics
from mulcot_rd.reporting.writers import ReportTable

_COLUMNS = ("dataset", "run", "source", "kind", "pairs", "posts", "margin", "chosen_words", "rejected_words")
_NOTE = (
    "sampled: both reasonings are the student's own; assistant: the rejected one is the assistant's with a wrong "
    "label; teacher: stage one, which was wrong, against stage two. margin is the mean of checks that the chosen one "
    "passes more; below each check stands the percentage of pairs in which the chosen one does better. Pairs that were "
    "shuffled, a control, have a margin of about 0."
)


def preference_table(runs: Sequence[RunMetrics]) -> ReportTable:
    """A row a run and kind of pair; runs without preference optimisation have none."""
    rows = []
    for run in runs:
        for kind, counts in run.preference.kinds.items() if run.preference is not None else ():
            about = {"dataset": run.run.dataset, "run": run.run.run, "source": run.run.source, "kind": kind}
            better = {name: percent(share, name) for name, share in counts.better.items()}
            rows.append({**about, **counts.model_dump(exclude={"better"}), **better})
    checks = dict.fromkeys(name for row in rows for name in row if name not in _COLUMNS)
    frame = pd.DataFrame(rows, columns=[*_COLUMNS, *checks]).astype({"pairs": "Int64", "posts": "Int64"})
    return ReportTable(frame, "Preference pairs of the training split by kind", _NOTE, {"margin": (2, 2)})
