"""Pairs of models on the same test posts: difference in accuracy, its interval, and McNemar's test."""

import logging
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mulcot_rd.errors import UserError
from mulcot_rd.messages import nearest
from mulcot_rd.metrics import bootstrap_mean_interval, holm, mcnemar
from mulcot_rd.numbers import interval_text
from mulcot_rd.preference import STUDENT_PREFERENCE
from mulcot_rd.reporting.read import read_predictions
from mulcot_rd.reporting.runs import ABLATIONS, RunMetrics, seed_groups
from mulcot_rd.reporting.writers import ReportTable
from mulcot_rd.schema import PredictionRecord

logger = logging.getLogger(__name__)

# Of the columns that need more than one.
DECIMALS = {"p": (4, 4), "p, Holm": (4, 4)}

_SEED = 42
_COLUMNS = (
    *("dataset", "a", "b", "source", "posts", "accuracy a", "accuracy b", "difference", "interval"),
    *("only a right", "only b right", "p", "p, Holm"),
)
_NOTE = (
    "Accuracies of the label prompt, their difference (a less b) and its 95 percent bootstrap interval over posts are "
    "in percent. p is that of McNemar's exact test; p, Holm is corrected for all tests on the data set. Rows over "
    "several seeds compare the mean over seeds, post by post, and have no such test."
)


class _Side(NamedTuple):
    """One model of one run."""

    run: RunMetrics
    model: str

    @property
    def name(self) -> str:
        return f"{self.run.run.run}, {self.model}"


def comparison_table(runs: list[RunMetrics], compare_with: str | None = None) -> ReportTable:
    """Compare each whole run with its ablations, and each student with its assistant, on the same posts.

    Args:
        runs: Every run on disk, with its predictions.
        compare_with: Name of a run that every other one on the same data set is compared with as well.

    Returns:
        The table; its note names the pairs that can't be compared, and why.

    Raises:
        UserError: If no run has the name that is to be compared with.
    """
    names = {run.run.run for run in runs}
    if compare_with is not None and compare_with not in names:
        raise UserError(f"reporting.compare_with: no run {compare_with} has metrics; {nearest(compare_with, names)}")
    known = {(run.run.dataset, run.run.run): read_predictions(run) for run in runs}

    def answers(side: _Side) -> list[PredictionRecord]:
        return known[side.run.run.dataset, side.run.run.run].get(side.model, [])

    rows: list[dict[str, Any]] = []
    not_compared = []
    by_dataset = groupby(sorted(runs, key=lambda run: run.run.dataset), key=lambda run: run.run.dataset)
    for dataset, members in by_dataset:
        tested, of_dataset = [], list(members)
        if compare_with not in (None, *(run.run.run for run in of_dataset)):
            not_compared.append(f"the runs on {dataset} with {compare_with} (it has no metrics there)")
        for one, other in _pairs(of_dataset, compare_with):
            a, b = answers(one), answers(other)
            if (why := _why_not(one, other, a, b)) is None:
                tested.append(_compare(one, other, a, b))
            else:
                not_compared.append(f"{one.name} with {other.name} on {dataset} ({why})")
        for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["p, Holm"] = corrected
        rows += tested
    rows += _over_seeds(runs, answers)
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    counts = dict.fromkeys(("posts", "only a right", "only b right"), "Int64")
    note = f"{_NOTE} Not compared: {'; '.join(not_compared)}." if not_compared else _NOTE
    for pair in not_compared:
        logger.warning("not compared: %s", pair)
    return ReportTable(frame.astype(counts), "Differences between models on the same posts", note, DECIMALS)


def _why_not(one: _Side, other: _Side, a: list[PredictionRecord], b: list[PredictionRecord]) -> str | None:
    """Why two models can't be compared; ``None`` where they can."""
    for side, given in ((one, a), (other, b)):
        if side.model not in side.run.models:
            return f"{side.run.run.run} has no {side.model}"
        if not given:
            return f"no predictions of {side.name} on disk belong to its metrics: run the evaluation pipeline of it"
    return None if _questions(a) == _questions(b) else "they answered different posts"


def _pairs(runs: list[RunMetrics], compare_with: str | None) -> Iterator[tuple[_Side, _Side]]:
    """What is compared on one data set, no pair twice."""
    seen = set()
    for run in runs:
        if {"assistant", "student"} <= run.models.keys():
            yield _Side(run, "student"), _Side(run, "assistant")
        if {"student", STUDENT_PREFERENCE} <= run.models.keys():
            yield _Side(run, STUDENT_PREFERENCE), _Side(run, "student")
        for other in runs:
            reference = run.run.run == compare_with and other is not run
            if (reference or _ablates(other, run)) and (run.run.run, other.run.run) not in seen:
                seen |= {(run.run.run, other.run.run), (other.run.run, run.run.run)}
                for model in dict.fromkeys([*run.models, *other.models]):
                    # A part that is left out may be a whole model; that is the ablation, and no fault.
                    if reference or {model} <= run.models.keys() & other.models.keys():
                        yield _Side(run, model), _Side(other, model)


def _ablates(run: RunMetrics, whole: RunMetrics) -> bool:
    """Whether a run is the other one without a part, all else equal, as far as both say it."""
    same = ("dataset", "arch", "scale", "seed", "of_posts", "trained_on", "teacher", "checkpoints", "served")
    own, others = run.run.parameters, whole.run.parameters
    return (
        whole.run.variant == "full"
        and run.run.variant in ABLATIONS
        and all(getattr(run.run, name) == getattr(whole.run, name) for name in same)
        and (None in (run.run.captions, whole.run.captions) or run.run.captions == whole.run.captions)
        and all(own[part] == others[part] for part in own.keys() & others.keys())
    )


def _compare(one: _Side, other: _Side, a: list[PredictionRecord], b: list[PredictionRecord]) -> dict[str, Any]:
    test = mcnemar([r.prediction for r in a], [r.prediction for r in b], [r.label for r in a])
    return _row(one, other, (one.name, other.name), _right(a), _right(b)) | {
        "only a right": test.only_a_right,
        "only b right": test.only_b_right,
        "p": test.p_value,
    }


def _over_seeds(runs: list[RunMetrics], answers: Any) -> list[dict[str, Any]]:
    """Whole runs against their ablations, over the seeds that both have."""
    rows = []
    groups = seed_groups(runs)
    for whole in groups:
        for part in groups:
            paired = [(run, other) for run in whole for other in part if _ablates(other, run)]
            if len(paired) < 2:
                continue
            for model in whole[0].models:
                sides = [(_Side(run, model), _Side(other, model)) for run, other in paired]
                both = [(answers(one), answers(other)) for one, other in sides]
                asked = {_questions(records) for pair in both for records in pair}
                if asked == {()} or len(asked) != 1:
                    continue
                a, b = (np.mean([_right(pair[index]) for pair in both], axis=0) for index in (0, 1))
                name_a, name_b = (
                    f"{group[0].run.without_seed}, {model}, {len(paired)} seeds" for group in (whole, part)
                )
                rows.append(_row(*sides[0], (name_a, name_b), a, b))
    return rows


def _row(one: _Side, other: _Side, names: tuple[str, str], a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    low, high = bootstrap_mean_interval((a - b).tolist(), _SEED)
    of_a, of_b = one.run.run.source, other.run.run.source
    return {
        "dataset": one.run.run.dataset,
        "a": names[0],
        "b": names[1],
        "source": of_a if of_a == of_b else f"a: {of_a}; b: {of_b}",
        "posts": len(a),
        "accuracy a": 100 * a.mean(),
        "accuracy b": 100 * b.mean(),
        "difference": 100 * (a - b).mean(),
        "interval": interval_text(low, high),
    }


def _questions(records: list[PredictionRecord]) -> tuple[tuple[str, str, str | None], ...]:
    """The posts that were answered, with their gold labels."""
    return tuple((record.id, record.label, record.post_fingerprint) for record in records)


def _right(records: list[PredictionRecord]) -> np.ndarray:
    return np.array([float(record.prediction == record.label) for record in records])
