"""From posts to verdicts: what ``kedro predict`` and the pipeline prediction do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mulcot_rd.distributed import ClusterParameters
from mulcot_rd.errors import UserError
from mulcot_rd.files import local_path
from mulcot_rd.generation import AnsweringJob, GenerationParameters, kept_answers
from mulcot_rd.generation.predict import verdicts
from mulcot_rd.prediction.model import ModelInUse, model_in_use
from mulcot_rd.prediction.posts_file import read_rows
from mulcot_rd.prediction.verdicts_file import check_format, verdict_row
from mulcot_rd.schema import PostContent, Record, Verdict


def _local(path: Any) -> Path:
    return local_path(str(path), "posts, student and verdicts of a prediction", "copy it into one, and name that")


_Path = Annotated[Path, BeforeValidator(_local)]


class PredictionParameters(Record):
    """How a model is asked. Nothing of a run's configuration is read: a model answers alike anywhere."""

    generation: GenerationParameters = Field(GenerationParameters(), description="Batch size, lengths, retries, server")
    cluster: ClusterParameters = Field(ClusterParameters(), description="Where the model computes")
    seed: int = Field(42, ge=0, lt=2**31, description="Seed of the retries' sampling")


class PredictionPipelineParameters(PredictionParameters):
    """The arguments of :func:`predict_posts`, for the pipeline prediction."""

    posts: _Path = Field(description="File of posts, or folder of images with texts")
    student: _Path = Field(description="Folder of a trained student or assistant, or a merged checkpoint")
    output: _Path = Field(description="File of verdicts: JSON lines, CSV or Parquet, by its ending")


def predict_posts(
    posts: Path, student: Path, output: Path, parameters: PredictionParameters, api_key: str | None = None
) -> list[dict[str, Any]]:
    """Judge posts: a row for each, in their order, with a verdict or the reason why there is none.

    Answers are kept beside the output, in ``<output>.work``: the same command goes on after an interruption. The caller
    writes the rows.

    Args:
        posts: As :func:`~mulcot_rd.prediction.posts_file.read_rows` takes them.
        student: Folder of a trained student or assistant, or a merged checkpoint.
        output: The file that the caller will write: JSON lines, CSV or Parquet by its ending.
        parameters: How the model is asked.
        api_key: Of the server, where one answers.

    Returns:
        Rows of :func:`~mulcot_rd.prediction.verdicts_file.verdict_row`.

    Raises:
        UserError: If the posts, the model or the output can't be used.
    """
    check_format(output, "output")
    if output.resolve() == posts.resolve():
        raise UserError(f"output {output} is the file of the posts: name another file")
    model = model_in_use(student)
    rows = read_rows(posts, model.encoder)
    contents = [row.content for row in rows if row.content is not None]
    model.warn_of_other_questions(contents)
    folder = output.with_name(f"{output.name}.work")
    given = iter(_verdicts(model, contents, folder, parameters, api_key) if contents else [])
    judged = []
    for row in rows:
        said, error = (None, row.error) if row.content is None else next(given)
        judged.append(verdict_row(row.id, row.aspect, said, None if error is None else f"{row.place}: {error}"))
    return judged


def _verdicts(
    model: ModelInUse,
    contents: Sequence[PostContent],
    folder: Path,
    parameters: PredictionParameters,
    api_key: str | None,
) -> list[tuple[Verdict, str | None]]:
    """Of each post the verdict, and what a server refused of it."""
    job = AnsweringJob(
        model=model.stored,
        posts=list(contents),
        tasks=model.tasks,
        parameters=parameters.generation,
        seed=parameters.seed,
        folder=folder,
        scored=list(contents) if "label" in model.tasks else [],
    )
    given, scores = job.ask(parameters.cluster, api_key)
    refused = {answer.post_id: answer.refusal for answer in given if answer.refusal is not None}
    said = verdicts(kept_answers(given, contents, model.tasks), scores, model.temperature)
    return [(each, refused.get(post.id)) for post, each in zip(contents, said, strict=True)]
