"""What is known of a trained model before it is loaded."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mulcot_rd.errors import StaleInputError
from mulcot_rd.models import BackboneParameters
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.models.loaded import StoredModel, model_manifest, model_temperature
from mulcot_rd.prompts import Task
from mulcot_rd.schema import PostContent
from mulcot_rd.versions import newest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInUse:
    """A trained model that is to judge posts.

    Attributes:
        stored: Where it lies: of several versions the newest.
        encoder: Makes its inputs.
        tasks: Whose prompts it was trained on.
        temperature: What its scores of labels are divided by: the one that an evaluation fitted, or 1.
        asked_about: Whether its training asked about an "aspect", the whole "post" or both; ``None`` if not known.
    """

    stored: StoredModel
    encoder: InputEncoder
    tasks: list[Task]
    temperature: float
    asked_about: list[str] | None

    def warn_of_other_questions(self, posts: Sequence[PostContent]) -> None:
        """Say in the log how many posts have no aspect where training asked about aspects alone, or the reverse."""
        if self.asked_about not in (["aspect"], ["post"]):
            return
        without = sum(post.aspect is None for post in posts)
        about = {"aspect": ("with", "without", without), "post": ("without", "with", len(posts) - without)}
        trained, given, number = about[self.asked_about[0]]
        if number:
            logger.warning(
                "%s was trained on posts %s an aspect, and %d of %d posts are given %s one: its verdicts may be worse",
                self.stored.folder, trained, number, len(posts), given,
            )  # fmt: skip


def model_in_use(folder: Path) -> ModelInUse:
    """Find a trained student or assistant, or the merged checkpoint of one.

    Raises:
        DamagedError: If there is none, or one of its files is not the one that was written.
        StaleInputError: If it was trained with other prompts than this version of the project has.
    """
    folder = newest(folder)
    manifest = model_manifest(folder)
    backbone = BackboneParameters.model_validate(manifest["backbone"])
    stored = StoredModel.of({**manifest, "folder": folder}, backbone)
    encoder = stored.load_encoder()
    if changed := encoder.differs_in(manifest["inputs"]):
        raise StaleInputError(
            f"{folder} was trained with other {' and '.join(changed)} than this version of mulcot_rd has: use the "
            f"version that trained it ({manifest['versions']['mulcot_rd']})"
        )
    fitted = model_temperature(folder)
    tasks = manifest["config"]["method"]["tasks"]
    if fitted is None and "label" in tasks:
        logger.warning(
            "%s has no temperature, its probabilities are not calibrated: no evaluation of its run has fitted one, or "
            "the folder was copied out of the run (move a model with `kedro export`)",
            folder,
        )
    temperature = 1.0 if fitted is None else fitted.temperature
    # Earlier versions did not write what the prompts are about.
    return ModelInUse(stored, encoder, tasks, temperature, manifest.get("asked_about"))
