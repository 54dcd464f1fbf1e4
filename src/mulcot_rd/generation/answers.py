"""Answers of a loaded model to posts, in units that processes share and that are not written twice.

The adaptive retry controller (paper, Appendix E) asks again, at most three times, where an answer can't be used:
a reasoning without all its sections or a readable label, a label answer without a readable label. The first
answer is greedy; asking a greedy model again would give the same text, so retries are sampled, from a seed. A
reasoning whose retry goes on to ``max_new_tokens`` is not asked again. That depends on the answers to this prompt
alone, so neither the number of workers nor an interruption changes it.
"""

from collections.abc import Mapping, Sequence

from mulcot_rd.distributed import ALONE, Group
from mulcot_rd.generation.engine import write_answers
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog, log_cut
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.inputs import InputEncoder, Prompt
from mulcot_rd.models.lora import TrainedModel
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.schema import PostContent

Prompts = Mapping[str, Mapping[Task, Prompt]]

# Posts of a unit, for each answer that is written together: more would lose more to a kill, fewer would leave rows
# empty more often while a unit's last answers are written.
_POSTS_A_ROW = 8
# Units that a piece of work has at least, where posts are enough for that, so that many processes can share it.
_UNITS = 16


def encode(encoder: InputEncoder, posts: Sequence[PostContent], tasks: Sequence[Task]) -> Prompts:
    """Post id to the prompts of its tasks."""
    return {post.id: {task: encoder.prompt(post, task) for task in tasks} for post in posts}


def units(posts: Sequence[PostContent], prompts: Prompts, batch_size: int) -> list[list[PostContent]]:
    """The posts in units of work, those with equally long prompts together.

    Units depend on posts and parameters alone, never on who works on them: so the texts do not either.
    """
    if not posts:
        return []
    ordered = sorted(posts, key=lambda post: (len(next(iter(prompts[post.id].values())).prefix), post.id))
    least = min(batch_size, -(-len(posts) // 2))
    size = max(least, min(_POSTS_A_ROW * batch_size, -(-len(posts) // _UNITS)))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def answer_posts(
    model: TrainedModel,
    encoder: InputEncoder,
    posts: Sequence[PostContent],
    tasks: Sequence[Task],
    parameters: GenerationParameters,
    *,
    seed: int,
    log: AnswerLog | None = None,
    description: str | None = None,
    group: Group = ALONE,
) -> list[Answer]:
    """Let a loaded model answer the prompts of ``tasks`` for every post, with retries (Appendix E).

    Posts are answered in units, which the processes share. A unit that was interrupted is answered anew, one that was
    finished is read from the log. So the same texts come out of an undisturbed run and of one that was killed.

    Args:
        model: The model, in every process; an adapter merged into its weights saves kernels.
        encoder: Makes the inputs, as in training.
        posts: The posts.
        tasks: "label", "reasoning", or both.
        parameters: Batch size, lengths, retries.
        seed: Of the retries' sampling.
        log: Keeps finished answers across interruptions; ``None`` keeps nothing.
        description: Names the work on the progress bar; ``None`` shows none.
        group: The processes.

    Returns:
        This process's part of the answers, those to one prompt in the order of their attempts. Rank 0 has what the log
        had, too.
    """
    prompts = encode(encoder, posts, tasks)
    cut = units(posts, prompts, parameters.batch_size)
    found = [None if log is None else log.unit(unit, tasks, parameters) for unit in cut]
    # Rank 0 tells what is missing: another process may see the folder a moment late.
    missing = group.broadcast([number for number, known in enumerate(found) if known is None])
    answers = [answer for known in found for answer in known or ()] if group.is_first else []
    share, base = [cut[number] for number in group.share(missing)], base_model(model.eval())
    total, process = len(tasks) * sum(map(len, share)), f" (worker 1 of {group.size})" if group.size > 1 else ""
    silent = description is None or not (share and group.is_first)
    with progress(total=total, desc=f"{description}{process}", unit="answer", disable=silent) as bar:
        told = silent
        for unit in share:
            written = []
            for answer in write_answers(base, encoder, unit, prompts, parameters, seed=seed):
                written.append(answer)
                bar.update(answer.is_last(parameters))
            if log is not None:
                log.add(written)
            answers += written
            told = told or log_cut(str(description), written, parameters.max_new_tokens)
    return answers
