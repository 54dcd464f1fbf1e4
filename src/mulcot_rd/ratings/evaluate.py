"""What filled rating sheets come to: mean scores of each system, and how far the raters agree."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mulcot_rd.errors import UserError
from mulcot_rd.ingest.lines import comma_separated
from mulcot_rd.ingest.result import IngestError
from mulcot_rd.metrics.statistics import bootstrap_mean_interval
from mulcot_rd.ratings.agreement import cohen_kappa, fleiss_kappa
from mulcot_rd.ratings.sheet import CRITERIA, SCALE, SENTIMENT
from mulcot_rd.schema import Sentiment


class RatingError(UserError):
    """A filled sheet that can't be used; the message names file, row and cure."""


def evaluate_ratings(files: Sequence[Path], key_file: Path, *, seed: int) -> dict[str, Any]:
    """Scores of each system and agreement of the raters.

    Args:
        files: One filled sheet a rater (CSV, any columns besides item and the questions are left aside).
        key_file: The sheet's key.
        seed: Of the bootstrap.

    Returns:
        ``raters``, ``items``; ``systems``: for each system and criterion the mean over its posts of the raters' mean
        score (1 to 5) with its 95 percent interval, and ``verdict_shared``, the share of ratings in which the rater
        sees the sentiment that the system predicts; ``agreement``: for each question Fleiss' kappa over all raters
        and Cohen's kappa of every two (quadratic weights for the criteria). Agreement is empty for one rater.

    Raises:
        RatingError: If a sheet or the key is missing, lacks an item or an answer, or holds an impossible one.
    """
    if not files:
        raise RatingError("there is no filled sheet: name one CSV file a rater")
    if not key_file.is_file():
        raise RatingError(f"there is no key {key_file}: it was written beside the sheet, put it back")
    key = _by_item(key_file, ("post_id", "system", "prediction"))
    sheets = {path.stem: _read(path, key_file, list(key.index)) for path in files}
    if len(sheets) < len(files):
        raise RatingError("two filled sheets have the same file name: name each after its rater")
    systems: dict[str, dict[str, Any]] = {}
    for system, items in key.groupby("system", sort=True):
        scores: dict[str, Any] = {"posts": len(items)}
        for criterion in CRITERIA:
            means = np.mean([sheet.loc[items.index, criterion].astype(int) for sheet in sheets.values()], axis=0)
            low, high = bootstrap_mean_interval(list(means), seed)
            scores[criterion] = {"mean": float(np.mean(means)), "interval": [low, high]}
        shared = np.mean(
            [sheet.loc[items.index, SENTIMENT] == items["prediction"] for sheet in sheets.values()], axis=0
        )
        low, high = bootstrap_mean_interval(list(shared), seed)
        scores["verdict_shared"] = {"mean": float(np.mean(shared)), "interval": [low, high]}
        systems[str(system)] = scores
    return {
        "raters": sorted(sheets),
        "items": len(key),
        "systems": systems,
        "agreement": _agreement(sheets) if len(sheets) > 1 else {},
    }


def scores_frame(evaluation: dict[str, Any]) -> pd.DataFrame:
    """One row a system: mean and interval of every question."""
    rows = []
    for system, scores in evaluation["systems"].items():
        row: dict[str, Any] = {"system": system, "posts": scores["posts"]}
        for question, value in scores.items():
            if question != "posts":
                low, high = value["interval"]
                row[question] = f"{value['mean']:.2f} [{low:.2f}, {high:.2f}]"
        rows.append(row)
    return pd.DataFrame(rows)


def agreement_frame(evaluation: dict[str, Any]) -> pd.DataFrame:
    """One row a question: Fleiss' kappa, and the mean of Cohen's kappas over pairs of raters."""
    rows = []
    for question, value in evaluation["agreement"].items():
        pairs = [kappa for kappa in value["cohen"].values() if kappa is not None]
        rows.append(
            {
                "question": question,
                "fleiss_kappa": value["fleiss"],
                "mean_cohen_kappa": float(np.mean(pairs)) if pairs else None,
            }
        )
    return pd.DataFrame(rows)


def _agreement(sheets: dict[str, pd.DataFrame]) -> dict[str, Any]:
    questions: dict[str, tuple[str, ...]] = {SENTIMENT: tuple(label.value for label in Sentiment)}
    questions |= {criterion: tuple(str(value) for value in SCALE) for criterion in CRITERIA}
    return {
        question: {
            "fleiss": fleiss_kappa([list(sheet[question]) for sheet in sheets.values()], categories),
            "cohen": {
                f"{one} / {other}": cohen_kappa(
                    list(sheets[one][question]), list(sheets[other][question]), categories,
                    ordinal=question in CRITERIA,
                )
                for one, other in combinations(sorted(sheets), 2)
            },
        }
        for question, categories in questions.items()
    }  # fmt: skip


def _by_item(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a CSV file, as a spreadsheet may have saved it, by its column ``item``."""
    rows = {}
    try:
        for line, values, fault in comma_separated(path, ("item", *columns)):
            if fault:
                raise RatingError(f"{path}, line {line}: {fault}")
            if values["item"] in rows:
                raise RatingError(f"{path}, line {line}: {values['item']} stands there twice: keep one row")
            rows[values["item"]] = [values[column] for column in columns]
    except IngestError as error:
        raise RatingError(str(error)) from error
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(columns), dtype=object)


def _read(path: Path, key_file: Path, items: list[str]) -> pd.DataFrame:
    """A filled sheet, its items in the key's order, every answer checked."""
    if not path.is_file():
        raise RatingError(f"there is no filled sheet {path}")
    sheet = _by_item(path, (SENTIMENT, *CRITERIA))
    for item in sheet.index.difference(items):
        raise RatingError(
            f"{path} rates {item}, which is not in {key_file}: it is a sheet of another run or draw, with its own key"
        )
    for item in items:
        if item not in sheet.index:
            raise RatingError(f"{path} has no row for {item}: every item of the sheet must be rated")
    for column, allowed in ((SENTIMENT, [label.value for label in Sentiment]), *((c, SCALE) for c in CRITERIA)):
        known = {str(value) for value in allowed}
        for item in items:
            if sheet.loc[item, column] not in known:
                raise RatingError(
                    f"{path}, {item}: {column} is {sheet.loc[item, column]!r}, it must be one of "
                    f"{', '.join(str(value) for value in allowed)}"
                )
    return sheet.loc[items]
