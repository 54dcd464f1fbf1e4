"""Making a role's backbone ready: the tiny checkpoint is built, a full-size one is only named."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mulcot_rd.files import empty_folder, write_json
from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.models.backbone import BackboneParameters, looks_local
from mulcot_rd.models.inputs import prompt_text
from mulcot_rd.models.registry import family_named
from mulcot_rd.models.tiny import build_tiny_checkpoint, train_tokenizer
from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.schema import Post, TeacherRecord

_NOTE = "prepared.json"


def prepare_backbone(
    backbone: BackboneParameters,
    posts: Sequence[Post],
    teacher: Sequence[TeacherRecord],
    *,
    vocabulary_size: int,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """Say where a role's weights are, after building them where they are tiny.

    A tiny model's tokenizer is trained on the prompts and targets of the training split alone. Assistant and
    student get the same tokenizer, as the models of a full-size family do.

    Args:
        backbone: The role's backbone.
        posts: Posts of the training split.
        teacher: The teacher's reasonings of these posts.
        vocabulary_size: Upper bound of the tiny tokenizer's token ids.
        seed: Of the random weights.
        folder: Where a tiny checkpoint goes.

    Returns:
        ``location`` (hub id or path), ``revision`` and a ``fingerprint`` of what the weights are.
    """
    family = family_named(backbone.family)
    if backbone.model is not None:
        made = {"location": backbone.model, "revision": backbone.revision}
        return {**made, "fingerprint": fingerprint(made, _contents(backbone.model))}
    if backbone.tiny is None:
        raise ValueError("a backbone without `model` needs `tiny`, the dimensions of the random model to build")
    texts = [prompt_text(family, post, task) for post in posts for task in TASKS]
    texts += [write(record.reasoning) for record in teacher]
    texts += [write_label(record.label) for record in teacher]
    made = {"location": str(folder), "revision": None}
    made["fingerprint"] = fingerprint(family.name, backbone.tiny, vocabulary_size, seed, texts)
    note = folder / _NOTE
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) == made:
        return made
    empty_folder(folder)
    tokenizer = train_tokenizer(texts, vocabulary_size, family.chat)
    build_tiny_checkpoint(folder, family, backbone.tiny, tokenizer, seed)
    write_json(note, made)
    return made


def _contents(location: str) -> list[object]:
    """What tells whether a local checkpoint was replaced: its configuration, names, sizes and times of its weights."""
    if not looks_local(location):
        return []
    weights = sorted(Path(location).glob("*.safetensors"))
    marks = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in weights]
    return [(Path(location) / "config.json").read_text(encoding="utf-8"), marks]
