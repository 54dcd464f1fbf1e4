"""Answers of a trained model to its prompts, with retries, going on where they were interrupted.

The adaptive retry controller (paper, Appendix E) asks again, at most three times, where an answer can't be used:
a reasoning without all its sections or a readable label, a label answer without a readable label. The first
answer is greedy; asking a greedy model again would give the same text, so retries are sampled, from a seed.
"""

from collections import defaultdict
from collections.abc import Sequence

from peft import PeftModel
from transformers import PreTrainedModel

from mulcot_rd.generation.engine import Asked, Engine
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog, Generated, Logged
from mulcot_rd.generation.served import served_answers
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.lora import merged_adapter
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post


def answer_posts(
    model: PeftModel | PreTrainedModel | None,
    encoder: InputEncoder,
    posts: Sequence[Post],
    tasks: Sequence[Task],
    parameters: GenerationParameters,
    *,
    seed: int,
    log: AnswerLog | None,
    description: str,
    examples: Sequence[tuple[Task, str]] = (),
    api_key: str | None = None,
) -> dict[Task, list[Answer]]:
    """Let a model answer the prompts of ``tasks`` for every post, each post read once for all of them.

    Posts are answered in groups. Which posts make a group depends on posts and parameters alone, and so does all that
    happens inside it; a group that was interrupted is answered anew, one that was finished is read from the log. So
    the same texts come out of an undisturbed run and of one that was killed.

    Args:
        model: Model with adapter, in evaluation mode; ``None`` where a server answers.
        encoder: Makes the inputs, as in training.
        posts: The posts; answers come back in their order.
        tasks: "label", "reasoning", or both.
        parameters: Batch size, lengths, retries.
        seed: Of the retries' sampling.
        log: Keeps finished answers across interruptions; ``None`` keeps nothing.
        description: Names the work on the progress bar.
        examples: Answers such as the model was trained to write, with their tasks. They make no difference to the
            texts; tokens are guessed ahead by them.
        api_key: Of the server, where one answers.

    Returns:
        Task to its answers.
    """
    if parameters.backend == "served":
        if log is None:
            raise ValueError("a served model's answers are kept in files: give a log")
        return served_answers(encoder, posts, tasks, parameters, folder=log.folder, api_key=api_key)
    if model is None:
        raise ValueError("no server is to answer: give a model")
    prompts = {post.id: {task: encoder.prompt(post, task) for task in tasks} for post in posts}
    ordered = sorted(posts, key=lambda post: (len(prompts[post.id][tasks[0]].opening), post.id))
    size = parameters.posts_a_group
    given: dict[tuple[Task, str], list[Generated]] = {}
    with (
        progress(total=len(posts) * len(tasks), desc=description, unit="answer") as bar,
        merged_adapter(model, parameters.merge_adapter),
    ):
        for start in range(0, len(ordered), size):
            group = ordered[start : start + size]
            known = _logged(log, group, tasks, parameters)
            if known is not None:
                bar.update(len(group) * len(tasks))
                given.update(known)
                continue
            answers: dict[tuple[Task, str], list[Generated]] = defaultdict(list)

            def settled(asked: Asked, answer: Generated, answers: dict = answers) -> bool:
                own = answers[asked.task, asked.post_id]
                own.append(answer)
                last = _is_last(own, asked.task, parameters)
                bar.update(int(last))
                return last

            engine = Engine(base_model(model), encoder, parameters, seed=seed, examples=examples)
            engine.answer(group, {post.id: prompts[post.id] for post in group}, settled)
            if log is not None:
                log.add(
                    [
                        Logged(task, post_id, attempt, answer)
                        for (task, post_id), own in answers.items()
                        for attempt, answer in enumerate(own, start=1)
                    ]
                )
            given.update(answers)
    return {task: [Answer.kept(post.id, given[task, post.id], task) for post in posts] for task in tasks}


def _is_last(given: Sequence[Generated], task: Task, parameters: GenerationParameters) -> bool:
    """Whether nothing more is asked after these answers to one prompt."""
    return given[-1].shortcomings(task) == 0 or len(given) > parameters.max_retries


def _logged(
    log: AnswerLog | None, group: Sequence[Post], tasks: Sequence[Task], parameters: GenerationParameters
) -> dict[tuple[Task, str], list[Generated]] | None:
    """All answers of a group from the log; ``None`` where any of them is missing."""
    if log is None:
        return None
    answers: dict[tuple[Task, str], list[Generated]] = {}
    for post in group:
        for task in tasks:
            own = answers[task, post.id] = []
            while not own or not _is_last(own, task, parameters):
                answer = log.get(task, post.id, len(own) + 1)
                if answer is None:
                    return None
                own.append(answer)
    return answers
