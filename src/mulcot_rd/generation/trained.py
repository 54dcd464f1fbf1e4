"""Answers of a trained model to posts: in process, by several processes, or by a server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mulcot_rd.distributed import ClusterParameters, Group, Job, launch
from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation.answers import Prompts, answer_units, encode, kept_answers, units
from mulcot_rd.generation.parameters import GenerationParameters, ServedParameters
from mulcot_rd.generation.records import Answer, AnswerLog
from mulcot_rd.generation.served import served_answers
from mulcot_rd.images import image_hashes
from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import load_encoder, load_model
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.schema import PostContent


class AnsweringJob(Job):
    """Answers of a trained model, each unit in a file of its own.

    Attributes:
        name: Names the work on the progress bar.
        adapter: The trained model's folder.
        backbone: The model before training, and how it computes.
        units: The posts, as :func:`~mulcot_rd.generation.answers.units` has them.
        tasks: Whose prompts are asked.
        parameters: Batch size, lengths, retries.
        seed: Of the retries' sampling.
        folder: Where the answers are kept.
        made_from: What they depend on.
    """

    name: str
    adapter: Path
    backbone: BackboneParameters
    units: list[list[PostContent]]
    tasks: list[Task]
    parameters: GenerationParameters
    seed: int
    folder: Path
    made_from: dict[str, Any]

    def run(self, group: Group) -> None:
        """Write this process's share."""
        trained = load_model(self.adapter, self.backbone)
        posts = [post for unit in self.units for post in unit]
        answer_units(
            without_adapter(trained.model),
            trained.encoder,
            self.units,
            encode(trained.encoder, posts, self.tasks),
            self.parameters,
            seed=self.seed,
            log=AnswerLog(self.folder, self.made_from),
            description=self.name,
            group=group,
        )


def trained_answers(
    name: str,
    adapter: Path,
    backbone: BackboneParameters,
    posts: Sequence[PostContent],
    tasks: list[Task],
    parameters: GenerationParameters,
    *,
    weights: str,
    seed: int,
    folder: Path,
    cluster: ClusterParameters,
    api_key: str | None = None,
) -> dict[Task, list[Answer]]:
    """Let a trained model answer the prompts of ``tasks`` for every post, with retries (Appendix E).

    What an interrupted run had answered is not asked again.

    Args:
        name: Names the work on the progress bar.
        adapter: The trained model's folder.
        backbone: Where the model before training lies now, and how it computes.
        posts: The posts; answers come back in their order.
        tasks: "label", "reasoning", or both.
        parameters: Batch size, lengths, retries, or a server.
        weights: What tells the model's weights from others; answers of other ones are not taken.
        seed: Of the retries' sampling.
        folder: Where finished answers are kept.
        cluster: Where the model answers, where it is no server.
        api_key: Of the server.

    Returns:
        Task to the answer that is kept for each post.

    Raises:
        TeacherError: If the server can answer nothing at all.
        UserError: If this machine does not see what other machines of a cluster wrote.
    """
    encoder = load_encoder(adapter, backbone)
    # Where reasonings alone are asked, earlier versions took both prompts: their answers are found again.
    known = encode(encoder, posts, TASKS if tasks == ["reasoning"] else tasks)
    made_from = {
        "model": weights,
        "prompts": prompts_fingerprint(encoder, posts, known),
        "generation": parameters.result_settings(tasks),
        "seed": seed,
    }
    log = AnswerLog(folder, made_from)
    if parameters.backend == "served":
        given = served_answers(encoder, posts, tasks, parameters, folder=log.folder, api_key=api_key)
        return kept_answers(given, posts, tasks)
    prompts = {post_id: {task: own[task] for task in tasks} for post_id, own in known.items()}
    cut = units(posts, prompts, parameters.batch_size)
    missing = [unit for unit in cut if log.unit(unit, prompts, parameters.max_retries) is None]
    if missing:
        job = AnsweringJob(
            name=name,
            adapter=adapter,
            backbone=backbone,
            units=missing,
            tasks=tasks,
            parameters=parameters.model_copy(update={"served": ServedParameters()}),
            seed=seed,
            folder=folder,
            made_from=made_from,
        )
        launch(job, cluster, log.folder / "job", cluster.parts(len(missing), sum(map(len, missing))))
        log = AnswerLog(folder, made_from)
    answers = [log.unit(unit, prompts, parameters.max_retries) for unit in cut]
    if None in answers:
        raise UserError(
            f"{log.folder} lacks answers that workers have written: data_root must be a folder that all nodes share; "
            "run the same command again"
        )
    return kept_answers([answer for unit in answers if unit is not None for answer in unit], posts, tasks)


def prompts_fingerprint(encoder: InputEncoder, posts: Sequence[PostContent], prompts: Prompts) -> str:
    """A hash of the token ids of the posts' prompts and of their images."""
    images = image_hashes(post.image for post in posts if post.image is not None)
    rows = [
        [post.id, images.get(str(post.image)), *(prompt.ids for prompt in prompts[post.id].values())] for post in posts
    ]
    return fingerprint(encoder.image_size, rows)
