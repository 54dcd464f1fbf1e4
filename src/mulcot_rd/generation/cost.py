"""What one prediction of a trained model costs: measured at batch size 1 (paper, Figure 3, Tables 11 and 12)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from mulcot_rd.generation.engine import write_answers
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.metrics.efficiency import device_name, measure_efficiency
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import TrainedModel, without_adapter
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post


def prediction_cost(
    model: TrainedModel,
    encoder: InputEncoder,
    posts: Sequence[Post],
    tasks: Sequence[Task],
    parameters: GenerationParameters,
    *,
    seed: int,
    max_seconds: float,
    name: str,
) -> dict[str, Any]:
    """Measure one greedy answer without retries, from the image on disk to the text, by the prompt of each task.

    Args:
        model: The trained model, in evaluation mode; its adapter is merged for good.
        encoder: Makes its inputs.
        posts: The posts to answer, one after another; at least one.
        tasks: Whose prompts are asked.
        parameters: Lengths of the answers.
        seed: Of sampling; greedy answers do not depend on it.
        max_seconds: About how long to measure a prompt.
        name: Names the model on the progress bar.

    Returns:
        ``device``, ``dtype``, and under ``prompts`` by task what
        :func:`~mulcot_rd.metrics.efficiency.measure_efficiency` gives.
    """
    one_by_one = parameters.model_copy(update={"batch_size": 1, "max_retries": 0})
    answering = without_adapter(model)
    device = answering.device
    measured = {}
    for task in tasks:
        answer = partial(_answer_one_by_one, answering, encoder, one_by_one, seed, task, name)
        measured[task] = measure_efficiency(
            partial(answer, None), posts, device, max_seconds=max_seconds, plain=partial(answer, False)
        )
    return {"device": device_name(device), "dtype": str(answering.dtype).removeprefix("torch."), "prompts": measured}


def _answer_one_by_one(
    model: PreTrainedModel,
    encoder: InputEncoder,
    parameters: GenerationParameters,
    seed: int,
    task: Task,
    name: str,
    static: bool | None,
    posts: Sequence[Post],
    finished: Callable[[], None],
) -> None:
    """Answer a task's prompt for one post after another; call ``finished`` after each."""
    prompts = {post.id: {task: encoder.prompt(post, task)} for post in posts}
    answers = write_answers(model, encoder, posts, prompts, parameters, seed=seed, static=static)
    for _ in progress(answers, total=len(posts), desc=f"{name}, one post at a time by {task} prompt", unit="answer"):
        finished()
