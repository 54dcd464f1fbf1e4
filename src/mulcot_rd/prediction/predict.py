"""From a file of posts to a file of verdicts."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from mulcot_rd.distributed import ClusterParameters
from mulcot_rd.errors import UserError
from mulcot_rd.files import replace_file
from mulcot_rd.generation import GenerationParameters, trained_answers
from mulcot_rd.generation.label_scores import trained_label_scores
from mulcot_rd.generation.predict import verdicts
from mulcot_rd.prediction.model import ModelInUse, model_in_use
from mulcot_rd.prediction.posts_file import RowToJudge, check_format, read_rows
from mulcot_rd.schema import PostContent, Sentiment, Verdict


class PredictionParameters(BaseModel):
    """How ``kedro predict`` asks a model. Nothing of a run's configuration is read: a model answers alike anywhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: GenerationParameters = Field(GenerationParameters(), description="Batch size, lengths, retries, server")
    cluster: ClusterParameters = Field(ClusterParameters(), description="Where the model computes")
    seed: int = Field(42, ge=0, lt=2**31, description="Seed of the retries' sampling")


def predict_file(posts: Path, student: Path, output: Path, parameters: PredictionParameters) -> tuple[int, int]:
    """Judge the posts of a file and write a row for each, in their order.

    Answers are kept beside the output, in ``<output>.work``: the same command goes on after an interruption.

    Args:
        posts: The file, as :func:`~mulcot_rd.prediction.posts_file.read_rows` takes it.
        student: Folder of a trained student or assistant, or a merged checkpoint.
        output: The file to write, or to replace: JSON lines, CSV or Parquet by its ending.
        parameters: How the model is asked.

    Returns:
        How many rows were written, and how many of them have an error in place of a verdict.

    Raises:
        UserError: If the posts, the model or the output can't be used.
    """
    check_format(output, "--output")
    if output.resolve() == posts.resolve():
        raise UserError(f"--output {output} is the file of the posts: name another file")
    model = model_in_use(student)
    rows = read_rows(posts, model.encoder)
    contents = [row.content for row in rows if row.content is not None]
    given = iter(_verdicts(model, contents, output.with_name(f"{output.name}.work"), parameters) if contents else [])
    written = [_output_row(row, next(given) if row.content is not None else None) for row in rows]
    replace_file(output, lambda path: _write(written, path, output.suffix.lower()))
    return len(rows), len(rows) - len(contents)


def _verdicts(
    model: ModelInUse, contents: Sequence[PostContent], folder: Path, parameters: PredictionParameters
) -> list[Verdict]:
    served = parameters.generation.backend == "served"
    answers = trained_answers(
        f"{len(contents)} posts by {' and '.join(model.tasks)} prompt",
        model.folder,
        model.backbone,
        contents,
        model.tasks,
        parameters.generation,
        weights=model.identity,
        seed=parameters.seed,
        folder=folder,
        cluster=parameters.cluster,
    )
    scores = None
    if "label" in model.tasks and not served:
        scores = trained_label_scores(
            f"{len(contents)} posts, probabilities",
            model.folder,
            model.backbone,
            contents,
            weights=model.identity,
            folder=folder,
            cluster=parameters.cluster,
        )
    return verdicts(answers, scores, model.temperature)


def _output_row(row: RowToJudge, verdict: Verdict | None) -> dict[str, Any]:
    said: dict[str, Any] = dict.fromkeys(Verdict.model_fields) if verdict is None else verdict.model_dump(mode="json")
    probabilities = said.pop("probabilities") or {}
    return {
        "id": row.id,
        "aspect": row.aspect,
        "label": said.pop("label"),
        **{f"probability_{label}": probabilities.get(label.value) for label in Sentiment},
        "agrees": None if verdict is None else verdict.agrees,
        **said,
        "error": None if row.error is None else f"{row.place}: {row.error}",
    }


def _write(rows: Sequence[dict[str, Any]], path: Path, kind: str) -> None:
    if kind == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return
    # Whole numbers and truth values stay what they are beside rows that have none.
    types = {"agrees": "boolean", "attempts": "Int64", "label_attempts": "Int64"}
    frame = pd.DataFrame(rows, columns=_COLUMNS).astype(types)
    if kind == ".csv":
        # A lone carriage return would end the row if it stood outside of quotes.
        frame.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)
    else:
        frame.to_parquet(path, index=False)


_COLUMNS = list(_output_row(RowToJudge("", "", None, None, None), None))
