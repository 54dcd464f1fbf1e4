"""How measured numbers are named: what kind of model they are of, who taught it, and on how much."""

from collections.abc import Mapping, Sequence
from typing import Any

MEASURED = "measured"
MEASURED_TINY = "measured (tiny model, random initial weights)"
PUBLISHED = "published"
RULES_TEACHER = "offline-rules"
# The variant of models as they come (starred rows of Tables 3 and 4).
ZERO_SHOT = "zero_shot"


def source_of(
    scale: str,
    teacher: str | None = None,
    limit: int | None = None,
    checkpoints: Sequence[str] = (),
    served: str | None = None,
    captions: str | None = None,
    trained_on: str | None = None,
) -> str:
    """Name the source of a number of a model of this scale, wherever the number appears.

    Args:
        scale: ``tiny`` or ``full``.
        teacher: Who taught it; rules of thumb are named, a paper's teacher is the architecture's.
        limit: Posts a split that the run was limited to.
        checkpoints: Checkpoints that stood in for the architecture's own weights.
        served: The model of a server that answered in place of any local one; scale and checkpoints say nothing then.
        captions: Who wrote the captions that stood in place of images; rules of thumb are named.
        trained_on: Data set and run that it was trained on, where they are others than those at hand.

    Raises:
        ValueError: If the scale is not ``tiny`` or ``full``.
    """
    names = {"tiny": MEASURED_TINY, "full": MEASURED}
    if scale not in names:
        raise ValueError(f"unknown scale {scale!r}: choose one of {', '.join(names)}")
    remarks = [names[scale] if served is None else f"{MEASURED}; {served}, served"]
    if checkpoints and served is None:
        remarks.append(f"models: {', '.join(checkpoints)}")
    if trained_on is not None:
        remarks.append(f"trained on {trained_on}")
    if teacher is not None and RULES_TEACHER in teacher:
        remarks.append("taught by rules")
    if captions is not None and RULES_TEACHER in captions:
        remarks.append("captions by rules")
    return "; ".join([*remarks, *_limited(limit)])


def source_of_run(scale: str, about: Mapping[str, Any]) -> str:
    """:func:`source_of` by the block ``run`` of a ``metrics.json``; it may lack what earlier versions did not write."""
    # Models that answer as they come were taught by nobody.
    teacher = None if about.get("variant") == ZERO_SHOT else about.get("teacher")
    names = ("limit", "checkpoints", "served", "captions", "trained_on")
    return source_of(scale, teacher, **{name: about[name] for name in names if name in about})


def teacher_row(provider: str | None, asked: str) -> str:
    """Name the row of a teacher's own labels.

    Args:
        provider: Who answered, as its summary names it; an import file doesn't say whether its writer knew the labels,
            so its row does not say how it was asked.
        asked: How a teacher that was asked here was asked.
    """
    return "teacher (imported texts)" if (provider or "").startswith("import") else f"teacher ({asked})"


def source_of_teacher(about: Mapping[str, Any]) -> str:
    """Name the source of a number of the teacher: it is no model of ours, whatever the run's scale.

    Args:
        about: The block ``run`` of a ``metrics.json``.
    """
    teacher = about.get("teacher")
    return "; ".join([MEASURED, *([teacher] if teacher else []), *_limited(about.get("limit"))])


def source_of_baseline(about: Mapping[str, Any]) -> str:
    """Name the source of a number of a baseline, by the block ``run`` of a ``metrics.json``."""
    return "; ".join([MEASURED, *_limited(about.get("limit"))])


def _limited(limit: int | None) -> list[str]:
    return [] if limit is None else [f"first {limit} posts a split"]
