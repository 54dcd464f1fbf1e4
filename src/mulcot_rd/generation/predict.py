"""Predictions of a trained model on a split, by both prompts (paper, Section 4.3)."""

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel

from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation.answers import answer_posts
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import AnswerLog
from mulcot_rd.images import images_fingerprint
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import TASKS
from mulcot_rd.schema import Post, PredictionRecord


def prompts_fingerprint(encoder: InputEncoder, posts: Sequence[Post]) -> str:
    """A hash of the token ids of both prompts and the images of all posts."""
    images = images_fingerprint(post.image for post in posts)
    prompts = [[post.id, post.image, *(encoder.prompt(post, task).ids for task in TASKS)] for post in posts]
    return fingerprint(images, encoder.image_size, prompts)


def predict(
    model: PeftModel,
    encoder: InputEncoder,
    posts: Sequence[Post],
    parameters: GenerationParameters,
    *,
    seed: int,
    log_path: Path,
    weights: str,
    name: str,
) -> list[PredictionRecord]:
    """Answer both prompts for every post, going on behind what an interrupted run had answered.

    Args:
        model: Model with adapter, in evaluation mode.
        encoder: Makes the inputs, as in training.
        posts: The split's posts.
        parameters: Batch size, lengths, retries.
        seed: Of the retries' sampling.
        log_path: JSONL file that keeps finished answers.
        weights: Fingerprint of the model's weights and base; answers of other ones are not kept.
        name: Names the model on the progress bar.
    """
    log = AnswerLog(log_path, fingerprint(weights, prompts_fingerprint(encoder, posts), parameters, seed))
    answers = answer_posts(
        model, encoder, posts, TASKS, parameters,
        seed=seed, log=log, description=f"{name}, {len(posts)} posts by both prompts",
    )  # fmt: skip
    return [
        PredictionRecord(
            id=post.id,
            label=post.label,
            prediction=label.reasoning.prediction,
            reasoning_prediction=reasoning.reasoning.prediction,
            **reasoning.reasoning.sections,
            raw_text=reasoning.text,
            raw_label_text=label.text,
            attempts=reasoning.attempts,
            label_attempts=label.attempts,
        )
        for post, label, reasoning in zip(posts, answers["label"], answers["reasoning"], strict=True)
    ]
