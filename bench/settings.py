"""What the benchmarks train and ask: the tiny models on the shipped sample, and models with a real vocabulary.

``real_vocab`` has 151,936 columns, hidden size 256 (the assistant's 384), the paper's LoRA, images of 280 x 280 pixels
(100 tokens) and sequences as long as real prompts and reasonings are with a real tokenizer: 250 prompt tokens with the
image, 200 of reasoning. No such tokenizer is at hand without a download, so the token ids are random. All weights are
random at both scales: the figures compare two ways of doing the same work, and say nothing about the paper's models.
"""

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.distributed import ClusterParameters
from mulcot_rd.ingest import IngestParameters, read_posts
from mulcot_rd.kept import Kept
from mulcot_rd.models import AdapterParameters, BackboneParameters, TinySize, family_named
from mulcot_rd.models.checkpoint import prepare_checkpoint
from mulcot_rd.models.loaded import LoadedModel, fresh_model
from mulcot_rd.models.tiny import build_tiny_checkpoint, chat_tokenizer
from mulcot_rd.prompts import TASKS
from mulcot_rd.schema import Post, TeacherRecord, TrainingRow
from mulcot_rd.teacher import TeacherParameters, annotate
from mulcot_rd.training.batches import Example, make_example
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.objective import StudentLossWeights
from mulcot_rd.training.soft_label_writing import write_shards, write_soft_labels
from mulcot_rd.training.soft_labels import SoftLabelParameters, SoftLabels

ROOT = Path(__file__).parents[1]
SCALES = ("tiny", "real_vocab")
Scale = Literal["tiny", "real_vocab"]
RoleName = Literal["assistant", "student"]

REAL_IDS, REAL_COLUMNS = 151_665, 151_936
REAL_ROWS = 8
# Tokens of the real prompts beside the image, and of the answers (mean, and spread of the normal distribution).
REAL_PREFIX, REAL_SUFFIX = (115, 25), 35
REAL_TARGETS = {"label": (5, 0), "reasoning": (200, 30)}
BATCH_SIZE = {"tiny": 8, "real_vocab": 2}
WINDOW = {"tiny": 16, "real_vocab": 8}


@dataclass(frozen=True)
class Setting:
    """Models, rows and soft labels of one scale; everything lies in ``folder``, so that another process finds it.

    Attributes:
        scale: "tiny" or "real_vocab".
        folder: Where checkpoints, soft labels and the teacher's ledger are kept.
        rows: Training posts of the shipped sample at tiny scale.
    """

    scale: Scale
    folder: Path
    rows: int = 16

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The project's own configuration."""
        return ProjectConfigLoader(conf_source=str(ROOT / "conf"), base_env="base", default_run_env="base")[
            "parameters"
        ]

    @cached_property
    def posts(self) -> list[Post]:
        """Training posts of the shipped sample."""
        posts = read_posts("sample", ROOT / "data" / "01_raw", IngestParameters(), 42).posts
        return [post for post in posts if post.split == "train"][: self.rows]

    @cached_property
    def teacher(self) -> list[TeacherRecord]:
        """The offline teacher's reasonings of them."""
        return annotate(self.posts, [], TeacherParameters(), self.folder / "ledger.jsonl").reasoning

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return 280 if self.scale == "real_vocab" else self.parameters["inputs"]["image_size"]

    def backbone(self, name: RoleName) -> BackboneParameters:
        """What plays a role at this scale."""
        if self.scale == "tiny":
            return BackboneParameters(**self.parameters[f"{name}_backbone"])
        return BackboneParameters(
            family="qwen2_5_vl",
            model=None,
            tiny=TinySize(
                hidden_size={"student": 256, "assistant": 384}[name],
                intermediate_size={"student": 768, "assistant": 1152}[name],
                layers={"student": 4, "assistant": 6}[name],
                heads=4,
                key_value_heads=2,
                vision_hidden_size=128,
                vision_layers=2,
                vision_heads=4,
                initializer_range=0.08,
                head_rows=REAL_COLUMNS,
            ),
            dtype="float32",
            adapter=AdapterParameters(lora_dropout={"student": 0.05, "assistant": 0.2}[name]),
        )

    def role(self, name: RoleName) -> LoadedModel:
        """A role's model, loaded from the folder; its checkpoint is made if it is not there."""
        backbone, folder = self.backbone(name), self.folder / name
        if self.scale == "tiny":
            size = self.parameters["inputs"]["tiny_vocabulary_size"]
            made = prepare_checkpoint(backbone, self.posts, self.teacher, vocabulary_size=size, seed=1, models=folder)
        else:
            made = {"location": str(folder), "revision": None, "fingerprint": f"random {name}"}
            if not folder.exists():
                family = family_named(backbone.family)
                build_tiny_checkpoint(folder, family, backbone.tiny, real_tokenizer(family.chat), seed=1)
        return fresh_model(name, backbone, made, image_size=self.image_size, seed=1)

    @cached_property
    def training_rows(self) -> list[TrainingRow]:
        """Two reasonings a post, as most have in a student's training set: the teacher's own, and that of the next."""
        own = teacher_rows(self.teacher)
        others = [
            row.model_copy(update={"source": "assistant", "reasoning": following.reasoning})
            for row, following in zip(own, [*own[1:], own[0]], strict=True)
        ]
        return [row for pair in zip(own, others, strict=True) for row in pair]

    def examples(self, role: LoadedModel) -> list[Example]:
        """The training rows."""
        if self.scale == "real_vocab":
            count, found = REAL_ROWS // 2, []
            for number, post in enumerate(self.posts[:count]):
                own = random_example(role, post, number)
                found += [own, replace(own, targets=random_example(role, post, count + number).targets)]
            return found
        by_id = {post.id: post for post in self.posts}
        return [make_example(row, by_id[row.post_id], role.encoder, TASKS) for row in self.training_rows]

    @property
    def cluster(self) -> ClusterParameters:
        """Processes that train together: at tiny scale as configured, at the other one as full-size models have it."""
        return ClusterParameters(**self.parameters["cluster"] if self.scale == "tiny" else {})

    def weights(self, role: LoadedModel) -> StudentLossWeights:
        """The student's objective with the paper's weights."""
        return StudentLossWeights(vocabulary_size=len(role.encoder.tokenizer))

    def soft_labels(self, assistant: LoadedModel, examples: Sequence[Example], **parameters: Any) -> SoftLabels:
        """Soft labels of the rows in the folder; of the project's own kind unless ``parameters`` say otherwise."""
        chosen = SoftLabelParameters(**{**self.parameters["soft_labels"], "batch_size": 2, **parameters})
        folder = self.soft_label_folder(chosen)
        assistant.model.eval()
        kept = Kept(folder.parent, folder.name)
        kept.put(
            write_soft_labels(
                partial(write_shards, assistant.model, assistant.encoder, examples),
                assistant.encoder,
                examples,
                kept,
                {"rows": "bench"},
                chosen,
            ).folder
        )
        return SoftLabels(folder)

    def soft_label_folder(self, parameters: SoftLabelParameters) -> Path:
        """Where soft labels of these parameters lie."""
        name = "exact" if parameters.kind == "exact" else f"top_{parameters.top_k}"
        return self.folder / f"soft_labels_{name}"


def real_tokenizer(chat: Any) -> PreTrainedTokenizerFast:
    """As many ids as the real tokenizer has, the special ones first; it can't read text."""
    words = [*chat.special, *(f"w{number}" for number in range(REAL_IDS - len(chat.special)))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return chat_tokenizer(tokenizer, chat)


def random_example(role: LoadedModel, post: Post, seed: int) -> Example:
    """A training row of random token ids, as long as real prompts and answers are."""
    draw, encoder = random.Random(seed), role.encoder
    special = {encoder.tokenizer.convert_tokens_to_ids(token): token for token in encoder.family.chat.special}

    def text(length: int) -> list[int]:
        return [draw.randrange(len(special), REAL_IDS) for _ in range(length)]

    def drawn(mean: float, spread: float) -> int:
        return max(2, round(draw.gauss(mean, spread)))

    ids = {token: number for number, token in special.items()}
    image = [ids["<|vision_start|>"], *[encoder.image_token_id] * encoder.image_tokens, ids["<|vision_end|>"]]
    return Example(
        post_id=post.id,
        image=post.image,
        prefix=array("i", [*image, *text(drawn(*REAL_PREFIX))]),
        suffixes={task: array("i", text(REAL_SUFFIX)) for task in TASKS},
        targets={
            task: array("i", [*text(drawn(*REAL_TARGETS[task]) - 1), encoder.tokenizer.eos_token_id]) for task in TASKS
        },
    )
