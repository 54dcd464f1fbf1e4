"""Answers of a trained model to its prompts, with retries, going on where they were interrupted.

The adaptive retry controller (paper, Appendix E) asks again, at most three times, where an answer can't be used:
a reasoning without all its sections or a readable label, a label answer without a readable label. The first
answer is greedy; asking a greedy model again would give the same text, so retries are sampled, from a seed.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import torch
from tqdm import tqdm

from mulcot_rd.crew import Crew, crew_size
from mulcot_rd.generation.engine import Asked, Engine
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog, Generated, Logged
from mulcot_rd.generation.served import served_answers
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.models.lora import TrainedModel, merged_adapter
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Post

# Posts of each process, where their number is not given: fewer are answered before a helper has started.
_WORTH_A_HELPER = 480


def _uncounted() -> None:
    """What an answer counts for where no crew wants to know."""


class Answerer:
    """A model that answers the prompts of posts; the helpers of a crew have copies of it.

    Args:
        model: Model with adapter.
        encoder: Makes the inputs, as in training.
    """

    def __init__(self, model: TrainedModel, encoder: InputEncoder) -> None:
        self.model = model
        self.encoder = encoder
        self._count: Callable[[], None] = _uncounted

    def join(self, count: Callable[[], None]) -> None:
        """Become a helper's, which counts each answer that is settled."""
        self._count = count

    def answer(
        self,
        posts: Sequence[Post],
        prompts: Mapping[str, dict[Task, Prompt]],
        parameters: GenerationParameters,
        seed: int,
        told: Callable[[], None] | None = None,
    ) -> list[Logged]:
        """All answers to the prompts of these posts, retries among them; see :func:`answer_posts`.

        Args:
            posts: The posts, in the order in which they are read.
            prompts: Post id to the prompts of its tasks, the same tasks for all posts.
            parameters: Batch size, lengths, retries.
            seed: Of the retries' sampling.
            told: Called each time a prompt needs no further answer; by default what counts for the crew.
        """
        told = told or self._count
        # A last small group leaves some processes without a post.
        if not posts:
            return []
        self.model.eval()
        answers: dict[tuple[Task, str], list[Generated]] = defaultdict(list)

        def settled(asked: Asked, answer: Generated) -> bool:
            own = answers[asked.task, asked.post_id]
            own.append(answer)
            last = _is_last(own, asked.task, parameters)
            if last:
                told()
            return last

        with merged_adapter(self.model, parameters.merge_adapter):
            engine = Engine(base_model(self.model), self.encoder, parameters, seed=seed)
            engine.answer(posts, prompts, settled)
        return [
            Logged(task, post_id, attempt, answer)
            for (task, post_id), own in answers.items()
            for attempt, answer in enumerate(own, start=1)
        ]


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
    crew: Crew | None = None,
) -> dict[Task, list[Answer]]:
    """Let a model answer the prompts of ``tasks`` for every post, each post read once for all of them.

    Posts are answered in groups. Which posts make a group depends on posts and parameters alone, and so does all that
    happens inside it; a group that was interrupted is answered anew, one that was finished is read from the log. So
    the same texts come out of an undisturbed run and of one that was killed. Where several processes answer, each has
    its share of a group.

    Args:
        model: Model with adapter, in evaluation mode; ``None`` where a server answers.
        encoder: Makes the inputs, as in training.
        posts: The posts; answers come back in their order.
        tasks: "label", "reasoning", or both.
        parameters: Batch size, lengths, retries.
        seed: Of the retries' sampling.
        log: Keeps finished answers across interruptions; ``None`` keeps nothing.
        description: Names the work on the progress bar.
        api_key: Of the server, where one answers.
        crew: Processes that have this model already; by default as many are started as ``parameters`` ask for.

    Returns:
        Task to its answers.
    """
    if parameters.backend == "served":
        if log is None:
            raise ValueError("a served model's answers are kept in files: give a log")
        return served_answers(encoder, posts, tasks, parameters, folder=log.folder, api_key=api_key)
    if model is None:
        raise ValueError("no server is to answer: give a model")
    answerer = Answerer(model, encoder)
    prompts = {post.id: {task: encoder.prompt(post, task) for task in tasks} for post in posts}
    ordered = sorted(posts, key=lambda post: (len(prompts[post.id][tasks[0]].opening), post.id))
    size = parameters.posts_a_group
    given: dict[tuple[Task, str], list[Generated]] = {}
    with progress(total=len(posts) * len(tasks), desc=description, unit="answer") as bar, ExitStack() as stack:
        for start in range(0, len(ordered), size):
            group = ordered[start : start + size]
            known = _logged(log, group, tasks, parameters)
            if known is None:
                if crew is None:
                    count = _processes(parameters, model.device, len(ordered))
                    crew = stack.enter_context(Crew(answerer, count))
                answers = _answered(answerer, crew, group, prompts, parameters, seed, bar)
                if log is not None:
                    log.add(answers)
                known = defaultdict(list)
                for answer in answers:
                    known[answer.task, answer.post_id].append(answer.answer)
            else:
                bar.update(len(group) * len(tasks))
            given.update(known)
    return {task: [Answer.kept(post.id, given[task, post.id], task) for post in posts] for task in tasks}


def _processes(parameters: GenerationParameters, device: torch.device, posts: int) -> int:
    """How many processes answer so many posts."""
    most = posts // _WORTH_A_HELPER if parameters.workers is None else posts
    return crew_size(parameters.workers, device, most)


def _answered(
    answerer: Answerer,
    crew: Crew,
    group: Sequence[Post],
    prompts: Mapping[str, dict[Task, Prompt]],
    parameters: GenerationParameters,
    seed: int,
    bar: tqdm,
) -> list[Logged]:
    """All answers to a group's prompts, each process's share of its posts dealt like cards."""
    before, begun, own = crew.counted(), bar.n, 0

    def told() -> None:
        nonlocal own
        own += 1
        bar.update(begun + own + crew.counted() - before - bar.n)

    shares = []
    for number in range(crew.size):
        posts = group[number :: crew.size]
        shares.append((posts, {post.id: prompts[post.id] for post in posts}, parameters, seed))
    crew.ask("answer", shares[1:])
    answers = answerer.answer(*shares[0], told)
    for others in crew.results():
        answers += others
    bar.update(begun + sum(len(prompts[post.id]) for post in group) - bar.n)
    return answers


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
