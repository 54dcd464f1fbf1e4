"""Answers of a trained model to posts: in process or by a server, going on where they were interrupted.

The adaptive retry controller (paper, Appendix E) asks again, at most three times, where an answer can't be used:
a reasoning without all its sections or a readable label, a label answer without a readable label. The first
answer is greedy; asking a greedy model again would give the same text, so retries are sampled, from a seed.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from mulcot_rd.generation.engine import write_answers
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog, best_answer
from mulcot_rd.generation.served import served_answers
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.models.lora import TrainedModel
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post
from mulcot_rd.worker_pool import WorkerPool

# A group has so many posts for each row: more would lose more to a kill, fewer would leave rows empty more often while
# a group's last answers are written.
_POSTS_A_ROW = 8


class Answerer:
    """A model that answers the prompts of posts; every process has one.

    Args:
        model: The model; the adapter merged into its weights saves kernels.
        encoder: Makes the inputs, as in training.
    """

    def __init__(self, model: TrainedModel, encoder: InputEncoder) -> None:
        self.model = model
        self.encoder = encoder

    def answer(
        self,
        posts: Sequence[Post],
        prompts: Mapping[str, Mapping[Task, Prompt]],
        parameters: GenerationParameters,
        seed: int,
        settled: Callable[[], object] = lambda: None,
    ) -> list[Answer]:
        """All answers to the prompts of these posts, retries among them; calls ``settled`` after a prompt's last."""
        answers, base = [], base_model(self.model.eval())
        for answer in write_answers(base, self.encoder, posts, prompts, parameters, seed=seed):
            answers.append(answer)
            if answer.is_last(parameters.max_retries):
                settled()
        return answers


def answer_posts(
    model: TrainedModel | None,
    encoder: InputEncoder,
    posts: Sequence[Post],
    tasks: Sequence[Task],
    parameters: GenerationParameters,
    *,
    seed: int,
    log: AnswerLog | None,
    description: str,
    api_key: str | None = None,
    pool: WorkerPool | None = None,
) -> dict[Task, list[Answer]]:
    """Let a model answer the prompts of ``tasks`` for every post, with retries (Appendix E).

    Posts are answered in groups. Which posts make a group depends on posts and parameters alone, and so does all that
    happens inside it; a group that was interrupted is answered anew, one that was finished is read from the log. So
    the same texts come out of an undisturbed run and of one that was killed.

    Args:
        model: The model, as for :class:`Answerer`; ``None`` where a server answers.
        encoder: Makes the inputs, as in training.
        posts: The posts; answers come back in their order.
        tasks: "label", "reasoning", or both.
        parameters: Batch size, lengths, retries.
        seed: Of the retries' sampling.
        log: Keeps finished answers across interruptions; ``None`` keeps nothing.
        description: Names the work on the progress bar.
        api_key: Of the server, where one answers.
        pool: Processes that have this model and share the posts; by default this one alone.

    Returns:
        Task to the answer that is kept for each post.

    Raises:
        ValueError: If there is no model and none is served, or a served model has no log.
        TeacherError: If the server can answer nothing at all.
    """
    if parameters.backend == "served":
        if log is None:
            raise ValueError("a served model's answers are kept in files: give a log")
        answers = served_answers(encoder, posts, tasks, parameters, folder=log.folder, api_key=api_key)
    elif model is None:
        raise ValueError("no server is to answer: give a model")
    else:
        answerer, answers = Answerer(model, encoder), []
        pool = pool or WorkerPool(answerer, 1)
        prompts = {post.id: {task: encoder.prompt(post, task) for task in tasks} for post in posts}
        ordered = sorted(posts, key=lambda post: (len(prompts[post.id][tasks[0]].opening), post.id))
        size = _POSTS_A_ROW * parameters.batch_size
        with progress(total=len(posts) * len(tasks), desc=description, unit="answer") as bar:
            for start in range(0, len(ordered), size):
                group = ordered[start : start + size]
                known = None if log is None else log.group(group, tasks, parameters.max_retries)
                if known is None:
                    known = _divide(answerer, pool, group, prompts, parameters, seed, bar.update)
                    if log is not None:
                        log.add(known)
                answers += known
                # Read from the log, or written by other processes.
                bar.update((start + len(group)) * len(tasks) - bar.n)
    given = defaultdict(list)
    for answer in answers:
        given[answer.task, answer.post_id].append(answer)
    return {task: [best_answer(given[task, post.id]) for post in posts] for task in tasks}


def _divide(
    answerer: Answerer,
    pool: WorkerPool,
    group: Sequence[Post],
    prompts: Mapping[str, dict[Task, Prompt]],
    parameters: GenerationParameters,
    seed: int,
    settled: Callable[[], object],
) -> list[Answer]:
    """All answers to a group's prompts; its posts are dealt to the processes like cards."""
    shares = []
    for number in range(pool.size):
        posts = group[number :: pool.size]
        shares.append((posts, {post.id: prompts[post.id] for post in posts}, parameters, seed))
    pool.ask("answer", shares[1:])
    answers = answerer.answer(*shares[0], settled)
    return sum(pool.results(), answers)
