"""Predictions of a model on a split, by the prompts of its tasks (paper, Section 4.3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation.answers import answer_posts
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog
from mulcot_rd.images import image_hashes
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import TrainedModel
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.schema import Post, PredictionRecord, Reasoning


def prompts_fingerprint(encoder: InputEncoder, posts: Sequence[Post], tasks: Sequence[Task] = TASKS) -> str:
    """A hash of the token ids of the tasks' prompts and the images of all posts."""
    images = image_hashes(post.image for post in posts)
    prompts = [[post.id, images[post.image], *(encoder.prompt(post, task).ids for task in tasks)] for post in posts]
    return fingerprint(encoder.image_size, prompts)


def predict(
    model: TrainedModel | None,
    encoder: InputEncoder,
    posts: Sequence[Post],
    parameters: GenerationParameters,
    *,
    seed: int,
    folder: Path,
    weights: str,
    name: str,
    tasks: Sequence[Task] = TASKS,
    api_key: str | None = None,
) -> list[PredictionRecord]:
    """Answer the tasks' prompts for every post, going on behind what an interrupted run had answered.

    Where the label prompt is not asked, the prediction is the label that the reasoning comes to.

    Args (others as for :func:`~mulcot_rd.generation.answer_posts`):
        folder: Where finished answers are kept.
        weights: What tells the model's weights from others; answers of other ones are not taken.
        name: Names the model on the progress bar.
    """
    made_from = {
        "model": weights,
        "prompts": prompts_fingerprint(encoder, posts, tasks),
        "generation": parameters.result_settings(tasks),
        "seed": seed,
    }
    log = AnswerLog(folder, made_from)
    answers = answer_posts(
        model, encoder, posts, tasks, parameters,
        seed=seed, log=log, description=f"{name}, {len(posts)} posts by {' and '.join(tasks)} prompt",
        api_key=api_key,
    )  # fmt: skip
    return [_record(post, {task: answers[task][number] for task in tasks}) for number, post in enumerate(posts)]


def _record(post: Post, answers: Mapping[Task, Answer]) -> PredictionRecord:
    label, reasoning = answers.get("label"), answers.get("reasoning")
    read = reasoning.reasoning if reasoning is not None else Reasoning()
    return PredictionRecord(
        id=post.id,
        label=post.label,
        prediction=read.prediction if label is None else label.reasoning.prediction,
        reasoning_prediction=read.prediction,
        **read.sections,
        raw_text="" if reasoning is None else reasoning.text,
        raw_label_text="" if label is None else label.text,
        attempts=0 if reasoning is None else reasoning.attempt,
        label_attempts=0 if label is None else label.attempt,
    )
