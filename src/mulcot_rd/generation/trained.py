"""Answers of a trained model to posts, and scores of its labels: in process, by several processes, or by a server."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mulcot_rd.distributed import ClusterParameters, Group, Job, launch
from mulcot_rd.errors import UserError
from mulcot_rd.extras import extra
from mulcot_rd.files import write_json
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.generation.answers import Prompts, answer_posts, encode, units
from mulcot_rd.generation.label_scores import POSTS_A_PASS, LabelScores, label_scores
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer, AnswerLog
from mulcot_rd.images import image_hashes
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import StoredModel
from mulcot_rd.models.lora import without_adapter
from mulcot_rd.progress import progress
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.schema import PostContent


class AnsweringJob(Job):
    """Answers of a trained model with retries (Appendix E), and scores of its labels; it is loaded once for both.

    Each unit of posts is in a file of its own: what an interrupted run had finished is not asked again.

    Attributes:
        model: The model; answers of other weights are not taken.
        posts: The posts to answer.
        tasks: Whose prompts are asked: "label", "reasoning", or both.
        parameters: Batch size, lengths, retries, or a server.
        seed: Of the retries' sampling.
        folder: Where finished answers and scores are kept.
        scored: The posts whose labels are scored.
        made_from: What the answers depend on; :meth:`ask` fills it in.
        unscored: File to the posts whose scores it gets; :meth:`ask` fills it in.
    """

    model: StoredModel
    posts: list[PostContent]
    tasks: list[Task]
    parameters: GenerationParameters
    seed: int
    folder: Path
    scored: list[PostContent]
    made_from: dict[str, Any] = Field(default_factory=dict)
    unscored: dict[Path, list[PostContent]] = Field(default_factory=dict)

    def ask(self, cluster: ClusterParameters, api_key: str | None = None) -> tuple[list[Answer], list[LabelScores]]:
        """Ask the model what is not in the folder yet.

        Args:
            cluster: Where the model computes, where it is no server.
            api_key: Of the server.

        Returns:
            All answers, those to one prompt in the order of their attempts; and the scores of each post of ``scored``,
            or none from a server.

        Raises:
            TeacherError: If the server can answer nothing at all.
            UserError: If this machine does not see what other machines of a cluster wrote.
        """
        encoder = self.model.load_encoder()
        # Where reasonings alone are asked, earlier versions took both prompts: their answers are found again.
        prompts = encode(encoder, self.posts, TASKS if self.tasks == ["reasoning"] else self.tasks)
        made_from = {
            "model": self.model.identity,
            "prompts": _prompts_fingerprint(encoder, self.posts, prompts),
            "generation": self.parameters.result_settings(self.tasks),
            "seed": self.seed,
        }
        if self.parameters.backend == "served":
            # Imported here: only a server needs OpenAI's client.
            with extra("teacher"):
                from mulcot_rd.generation.served import served_answers  # noqa: PLC0415

            asked = encoder, self.posts, self.tasks, self.parameters
            # Earlier versions kept a ledger for each set of parameters. One for the model is enough: it tells prompts,
            # lengths and sampling apart, and only a model trained anew has the name of the one before.
            folder = self.folder / fingerprint(made_from)[:12]
            if not (folder / "answers.jsonl").is_file():
                folder = self.folder / f"served-{fingerprint(self.model.identity)[:12]}"
            return served_answers(*asked, folder=folder, api_key=api_key), []
        log = AnswerLog(self.folder, made_from)
        cut, score_files = units(self.posts, prompts, self.parameters.batch_size), self._score_files(encoder)
        unanswered = [unit for unit in cut if log.unit(unit, self.tasks, self.parameters) is None]
        unscored = {path: unit for path, unit in score_files.items() if not path.is_file()}
        if unanswered or unscored:
            # No address of a server goes along.
            given = {"parameters": self.parameters.local(), "made_from": made_from, "unscored": unscored}
            parts = max(len(unanswered), len(unscored)), sum(map(len, [*unanswered, *unscored.values()]))
            launch(self.model_copy(update=given), cluster, log.folder / "job", cluster.parts(*parts))
            log = AnswerLog(self.folder, made_from)
        answers: list[Answer] = []
        for unit in cut:
            found = log.unit(unit, self.tasks, self.parameters)
            if found is None:
                raise UserError(
                    f"{log.folder} lacks answers that workers have written: data_root must be a folder that all nodes "
                    "share; run the same command again"
                )
            answers += found
        scores: dict[str, LabelScores] = {}
        for path, unit in score_files.items():
            read = json.loads(path.read_text(encoding="utf-8"))
            scores |= dict(zip([post.id for post in unit], read, strict=True))
        return answers, [scores[post.id] for post in self.scored]

    def run(self, group: Group) -> None:
        """Write this process's share."""
        trained, name = self.model.load(), self.model.name
        base = without_adapter(trained.model).eval()
        answer_posts(
            base, trained.encoder, self.posts, self.tasks, self.parameters,
            seed=self.seed, log=AnswerLog(self.folder, self.made_from), group=group,
            description=f"{name}, {len(self.posts)} posts by {' and '.join(self.tasks)} prompt",
        )  # fmt: skip
        share = group.share(list(self.unscored.items()))
        total, silent = sum(len(posts) for _, posts in share), not (share and group.is_first)
        with progress(total=total, desc=f"{name}, probabilities", unit="post", disable=silent) as bar:
            for path, posts in share:
                write_json(path, label_scores(base, trained.encoder, posts))
                bar.update(len(posts))

    def _score_files(self, encoder: InputEncoder) -> dict[Path, list[PostContent]]:
        """The files that keep the scores, each with its unit of posts."""
        prompts = encode(encoder, self.scored, ["label"])
        made_from = self.model.identity, _prompts_fingerprint(encoder, self.scored, prompts)
        kept = self.folder / fingerprint(*made_from)[:12]
        cut = units(self.scored, prompts, POSTS_A_PASS)
        return {kept / f"scores-{number:05}.json": unit for number, unit in enumerate(cut)}


def _prompts_fingerprint(encoder: InputEncoder, posts: Sequence[PostContent], prompts: Prompts) -> str:
    """A hash of the token ids of the posts' prompts and of their images."""
    images = image_hashes(post.image for post in posts if post.image is not None)
    rows = [
        [post.id, images.get(str(post.image)), *(prompt.ids for prompt in prompts[post.id].values())] for post in posts
    ]
    return fingerprint(encoder.image_size, rows)
