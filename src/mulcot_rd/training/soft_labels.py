"""Soft labels: the assistant's distributions at every target position, computed once (paper, Eq. 10).

An exact kind rebuilds them to rounding, a compact one keeps the likeliest ids and the mass of all others
(:mod:`mulcot_rd.training.soft_label_layouts`). Beside either stand the token ids they belong to; a student whose
targets differ is refused. Files are safetensors, a shard for a run of training rows, the manifest written last.
"""

import json
import logging
from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mulcot_rd.errors import UserError
from mulcot_rd.files import replace_file, write_json
from mulcot_rd.fingerprint import fingerprint, remembered_fingerprint
from mulcot_rd.kept import MANIFEST, Kept, damaged_files, file_hashes, read_manifest, write_manifest
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.progress import progress
from mulcot_rd.prompts import Task
from mulcot_rd.training.batches import Example, collate
from mulcot_rd.training.distributions import Distributions, ExactDistributions
from mulcot_rd.training.forward import OutputHead, output_head, target_states
from mulcot_rd.training.soft_label_layouts import CompactLayout, ExactLayout, Layout, Read

logger = logging.getLogger(__name__)

# Hashes of files by size and time: there are gigabytes of them.
HASHES = "hashes.json"
_HEAD = "head.safetensors"
_ID = torch.int32


class SoftLabelError(UserError):
    """Soft labels that are missing, incomplete, or belong to other rows, tokens or another tokenizer."""


@dataclass(frozen=True)
class NoSoftLabels:
    """What a variant without an assistant has in place of soft labels, and why."""

    reason: str


class SoftLabelParameters(BaseModel):
    """How soft labels are computed and stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class SoftLabelManifest(BaseModel):
    """What a finished folder of soft labels holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    position = layout.position_bytes(hidden_size, item_bytes, vocabulary_size) + _ID.itemsize
    return position * sum(len(ids) for example in examples for ids in example.targets.values())


@torch.no_grad()
def write_soft_labels(
    model: PeftModel,
    encoder: InputEncoder,
    examples: Sequence[Example],
    kept: Kept,
    made_from: Mapping[str, Any],
    parameters: SoftLabelParameters,
) -> "SoftLabels":
    """Compute and store the assistant's distributions for all examples, going on behind the last finished shard.

    Finished ones of the same fingerprint are found again; a file of theirs that is missing or was changed is written
    anew.

    Args:
        model: The trained assistant, in evaluation mode.
        encoder: Makes the inputs, as in training.
        examples: The student's training rows, in the order in which the student will name them.
        kept: Where soft labels lie.
        made_from: Assistant, rows, and what of the parameters the distributions depend on, by name.
        parameters: Kind, temperature, batch and shard size.

    Raises:
        SoftLabelError: If the assistant's hidden states are not finite.
    """
    key = fingerprint(made_from)
    finished = kept.find(key)
    if finished is None:
        kept.begin(key, made_from)
        folder = kept.result(key)
    else:
        folder = Path(finished["folder"])
        damaged = damaged_files(folder, finished["files"], folder / HASHES)
        if not damaged:
            return SoftLabels(folder)
        logger.warning("%s: %s is missing or was changed, and is written anew", folder, ", ".join(damaged))
        for name in damaged:
            (folder / name).unlink(missing_ok=True)
    note = folder / "shards.json"
    begun = _begun(note, finished, parameters.rows_per_shard)
    rows_per_shard = begun["rows"]
    vocabulary = len(encoder.tokenizer)
    head = output_head(model).cut(vocabulary)
    layout = _layout(folder, parameters, head)
    size = expected_bytes(examples, layout, head.weight.shape[1], head.weight.element_size(), vocabulary)
    size += sum(path.stat().st_size for path in folder.glob(_HEAD))
    logger.info(
        "%s soft labels of %d rows will take %.1f MiB in %s", parameters.kind, len(examples), size / 2**20, folder
    )
    with progress(total=len(examples), desc="soft labels", unit="row") as bar:
        for start in range(0, len(examples), rows_per_shard):
            rows = examples[start : start + rows_per_shard]
            shard = _shard(folder, start // rows_per_shard)
            if shard.name not in begun["files"] or damaged_files(folder, {shard.name: begun["files"][shard.name]}):
                tensors = _shard_tensors(model, encoder, rows, head, layout, parameters.batch_size)
                replace_file(shard, lambda path, tensors=tensors: save_file(tensors, path))
                begun["files"][shard.name] = remembered_fingerprint(shard, folder / HASHES)
                write_json(note, begun)
            bar.update(len(rows))
    manifest = SoftLabelManifest(
        fingerprint=key,
        made_from=dict(made_from),
        kind=parameters.kind,
        top_k=parameters.top_k if parameters.kind == "compact" else None,
        temperature=parameters.temperature if parameters.kind == "compact" else None,
        tokenizer=tokenizer_fingerprint(encoder.tokenizer),
        vocabulary_size=vocabulary,
        rows=len(examples),
        rows_per_shard=rows_per_shard,
        tasks=list(examples[0].targets),
        inputs=encoder.settings,
        bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        files=file_hashes(folder, folder / HASHES),
    )
    write_manifest(folder, manifest.model_dump())
    return SoftLabels(folder)


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
        if self.manifest.temperature not in (None, temperature):
            raise SoftLabelError(
                f"the compact soft labels in {self.folder} hold for temperature {self.manifest.temperature}, the "
                f"student is to learn at {temperature}: set soft_labels.temperature to it and run the pipeline "
                "data_expansion again"
            )

    def distributions(
        self, indices: Sequence[int], examples: Sequence[Example], device: torch.device
    ) -> dict[Task, Distributions]:
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
                number: stack.enter_context(safe_open(_shard(self.folder, number), framework="pt"))
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
        with safe_open(_shard(self.folder, number), framework="pt") as stored:
            return array("q", [0, *stored.get_tensor(f"{task}/lengths").cumsum(0).tolist()])

    def _stored_layout(self) -> Layout:
        manifest = self.manifest
        if manifest.kind == "compact":
            return CompactLayout(manifest.top_k, manifest.temperature, manifest.vocabulary_size)
        head = load_file(self.folder / _HEAD)
        return ExactLayout(head["weight"], head.get("bias"))


def _begun(note: Path, finished: Mapping[str, Any] | None, rows: int) -> dict[str, Any]:
    """Rows of a shard, and hashes of the shards that are there: begun with another number, they go on with that."""
    if finished is not None:
        shards = {name: hash_ for name, hash_ in finished["files"].items() if name.startswith("shard-")}
        return {"rows": finished["rows_per_shard"], "files": shards}
    try:
        return {"files": {}, **json.loads(note.read_text(encoding="utf-8"))}
    except (FileNotFoundError, ValueError):
        return {"rows": rows, "files": {}}


def _layout(folder: Path, parameters: SoftLabelParameters, head: OutputHead) -> Layout:
    """The layout that ``parameters`` ask for; an exact one's head is written."""
    if parameters.kind == "compact":
        return CompactLayout(parameters.top_k, parameters.temperature, len(head.weight))
    tensors = {"weight": head.weight} if head.bias is None else {"weight": head.weight, "bias": head.bias}
    # Copied: a cut head shares memory with the columns that are left out.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    replace_file(folder / _HEAD, lambda path: save_file(tensors, path))
    return ExactLayout(tensors["weight"], tensors.get("bias"))


def _shard_tensors(
    model: PeftModel,
    encoder: InputEncoder,
    rows: Sequence[Example],
    head: OutputHead,
    layout: Layout,
    batch_size: int,
) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(rows), batch_size):
        batch = collate(rows[start : start + batch_size], encoder)
        for task, states in target_states(model, batch).items():
            if not bool(states.isfinite().all()):
                raise SoftLabelError(
                    f"the assistant's {task} states are not finite, of posts "
                    f"{', '.join(dict.fromkeys(row.post_id for row in rows))}: train it again at a lower learning rate"
                )
            exact = ExactDistributions(states * head.scale, head.weight, head.bias)
            for name, tensor in layout.pack(exact).items():
                parts.setdefault(f"{task}/{name}", []).append(tensor)
            parts.setdefault(f"{task}/ids", []).append(batch.targets[task].to(_ID))
    tensors = {name: torch.cat(pieces).contiguous() for name, pieces in parts.items()}
    for task in rows[0].targets:
        tensors[f"{task}/lengths"] = torch.tensor([len(row.targets[task]) for row in rows])
    return tensors


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"
