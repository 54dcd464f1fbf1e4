"""Soft labels: the assistant's distributions at every target position, computed once (paper, Eq. 10).

An exact kind rebuilds them to rounding, a compact one keeps the likeliest ids and the mass of all others
(:mod:`mulcot_rd.training.soft_label_layouts`). Beside either stand the token ids they belong to; a student whose
targets differ is refused. Files are safetensors, a shard for a run of training rows, the manifest written last
(:mod:`mulcot_rd.training.soft_label_writing`).
"""

from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.kept import MANIFEST, damaged_files, read_manifest
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Record
from mulcot_rd.training.batches import Example, examples_fingerprint
from mulcot_rd.training.distributions import StoredDistributions
from mulcot_rd.training.soft_label_layouts import CompactLayout, ExactLayout, Layout, Read

# Hashes of files by size and time: there are gigabytes of them.
HASHES = "hashes.json"
HEAD = "head.safetensors"
ID = torch.int32


class SoftLabelError(UserError):
    """Soft labels that are missing, incomplete, or belong to other rows, tokens or another tokenizer."""


@dataclass(frozen=True)
class NoSoftLabels:
    """What a variant without an assistant has in place of soft labels, and why."""

    reason: str


class SoftLabelParameters(Record):
    """How soft labels are computed and stored."""

    kind: Literal["exact", "compact"] = Field(
        "exact",
        description="exact: the assistant's hidden states and its head, nothing lost; compact: the top_k likeliest ids "
        "and one bucket for the mass of all others",
    )
    top_k: int = Field(64, ge=1, description="Ids that compact soft labels keep a position")
    temperature: float = Field(
        2.0, gt=0, description="tau of Eq. 10 that compact soft labels hold for; must be the student's (exact: any)"
    )
    batch_size: int = Field(8, ge=1, description="Rows of one forward pass")
    rows_per_shard: int = Field(64, ge=1, description="Training rows of one file; a kill loses at most the one in work")

    def result_settings(self) -> dict[str, Any]:
        """What distributions depend on: exact ones hold for any temperature, sizes change nothing."""
        return self.model_dump(include={"kind", "top_k", "temperature"} if self.kind == "compact" else {"kind"})


class SoftLabelManifest(Record):
    """What a finished folder of soft labels holds."""

    fingerprint: str
    made_from: dict[str, Any]
    kind: Literal["exact", "compact"]
    top_k: int | None = None
    temperature: float | None = None
    tokenizer: str
    vocabulary_size: int
    rows: int
    rows_per_shard: int
    tasks: list[Task]
    inputs: dict[str, Any]
    bytes: int
    files: dict[str, str]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of the mapping of tokens to ids: equal for two models if and only if their token ids agree."""
    return fingerprint(sorted(tokenizer.get_vocab().items()))


def expected_bytes(
    examples: Sequence[Example], layout: Layout, hidden_size: int, item_bytes: int, vocabulary_size: int
) -> int:
    """Bytes that the positions of these examples will take on disk, without the head that exact ones share."""
    position = layout.position_bytes(hidden_size, item_bytes, vocabulary_size) + ID.itemsize
    return position * sum(len(ids) for example in examples for ids in example.targets.values())


class SoftLabels:
    """The stored soft labels of one training set, read from disk as they are asked for.

    Raises:
        SoftLabelError: If the folder holds no finished soft labels, or a file of theirs is missing or was changed.
    """

    def __init__(self, folder: Path) -> None:
        stored = read_manifest(folder)
        if stored is None:
            raise SoftLabelError(f"{folder} holds no finished soft labels: run the pipeline data_expansion first")
        if damaged := damaged_files(folder, stored.get("files", {MANIFEST: ""}), folder / HASHES):
            raise SoftLabelError(
                f"{folder}: {', '.join(damaged)} is missing or not the file that was written: run the pipeline "
                "data_expansion again, which writes it anew"
            )
        self.folder = folder
        self.manifest = SoftLabelManifest(**stored)
        self._layout = self._stored_layout()
        self._starts = lru_cache(maxsize=None)(self._load_starts)

    def __reduce__(self) -> tuple[type["SoftLabels"], tuple[Path]]:
        return SoftLabels, (self.folder,)

    def check(self, encoder: InputEncoder, examples: Sequence[Example], temperature: float) -> None:
        """Refuse a student whose token ids, inputs, rows or temperature are not those the labels were made for.

        Raises:
            SoftLabelError: If anything differs; nothing is padded or cut to make it fit.
        """
        if tokenizer_fingerprint(encoder.tokenizer) != self.manifest.tokenizer:
            raise SoftLabelError(
                f"the student's tokenizer gives other token ids than the assistant's in {self.folder}: distillation "
                "needs models that share a tokenizer"
            )
        if changed := encoder.differs_in(self.manifest.inputs):
            raise SoftLabelError(
                f"the soft labels in {self.folder} were made of inputs of another {' and '.join(changed)}: use what "
                "they were made with, or train the assistant and run the pipeline data_expansion again"
            )
        if len(examples) != self.manifest.rows:
            raise SoftLabelError(
                f"{self.folder} holds soft labels of {self.manifest.rows} rows, the training set has {len(examples)}: "
                "run the pipeline data_expansion again"
            )
        if self.manifest.made_from.get("training_rows") not in (None, examples_fingerprint(examples)):
            raise SoftLabelError(
                f"the soft labels in {self.folder} were made of other training rows (texts, captions, reasonings or "
                "image files): use what they were made with, or run the pipeline data_expansion again"
            )
        if self.manifest.temperature not in (None, temperature):
            raise SoftLabelError(
                f"the compact soft labels in {self.folder} hold for temperature {self.manifest.temperature}, the "
                f"student is to learn at {temperature}: set soft_labels.temperature to it and run the pipeline "
                "data_expansion again"
            )

    def distributions(
        self, indices: Sequence[int], examples: Sequence[Example], device: torch.device
    ) -> dict[Task, StoredDistributions]:
        """The assistant's distributions at the targets of the rows ``indices``, by task.

        Args:
            indices: Rows of the training set.
            examples: The whole training set; the token ids of each row are compared with the stored ones.
            device: Where the distributions are wanted.

        Raises:
            SoftLabelError: If a row's target ids are not the stored ones.
        """
        # The files are mapped for the time of this call alone: pages that were read don't add up in memory.
        with ExitStack() as stack:
            shards = {
                number: stack.enter_context(safe_open(shard_file(self.folder, number), framework="pt"))
                for number in {index // self.manifest.rows_per_shard for index in indices}
            }
            return {
                task: self._layout.unpack(
                    [self._row(shards, index, task, examples[index].targets[task]) for index in indices], device
                )
                for task in examples[indices[0]].targets
            }

    def _row(self, shards: Mapping[int, safe_open], index: int, task: Task, target: Sequence[int]) -> Read:
        """What reads the stored tensors of one row, once its token ids have been compared."""
        number, row = divmod(index, self.manifest.rows_per_shard)
        begin, end = self._starts(number, task)[row : row + 2]

        def read(name: str) -> Tensor:
            return shards[number].get_slice(f"{task}/{name}")[begin:end]

        if read("ids").tolist() != list(target):
            raise SoftLabelError(
                f"row {index} of the training set has other {task} targets than its soft labels in {self.folder}: "
                "run the pipeline data_expansion again"
            )
        return read

    def _load_starts(self, number: int, task: Task) -> array:
        with safe_open(shard_file(self.folder, number), framework="pt") as stored:
            return array("q", [0, *stored.get_tensor(f"{task}/lengths").cumsum(0).tolist()])

    def _stored_layout(self) -> Layout:
        manifest = self.manifest
        if manifest.kind == "compact":
            top_k, temperature = cast(int, manifest.top_k), cast(float, manifest.temperature)
            return CompactLayout(top_k, temperature, manifest.vocabulary_size)
        head = load_file(self.folder / HEAD)
        return ExactLayout(head["weight"], head.get("bias"))


def shard_file(folder: Path, number: int) -> Path:
    """The file of a run of training rows."""
    return folder / f"shard-{number:05d}.safetensors"
