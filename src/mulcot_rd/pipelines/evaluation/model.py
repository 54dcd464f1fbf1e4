"""A model as the nodes of the pipeline evaluation hand it on."""

from dataclasses import dataclass
from typing import Any

from mulcot_rd.frames import posts_fingerprint
from mulcot_rd.generation.label_scores import LabelScores
from mulcot_rd.metrics.calibration import confidence_scores, fit_temperature
from mulcot_rd.models.loaded import StoredModel, model_temperature
from mulcot_rd.schema import Post
from mulcot_rd.training.parameters import ModelParameters


@dataclass(frozen=True)
class EvaluatedModel:
    """Assistant or student, before or after preference optimisation, as the nodes of this pipeline hand it on.

    It was found to fit the posts.

    Attributes:
        role: "assistant", "student" or "student_preference".
        stored: The model; ``None`` where there is none, or where a server answered in its place.
        parameters: How it is asked.
        dev: The dev posts as it reads them.
        test: The test posts.
        label_scores: Post id to the scores of its labels; empty of a model that has no label prompt.
    """

    role: str
    stored: StoredModel | None
    parameters: ModelParameters
    dev: list[Post]
    test: list[Post]
    label_scores: dict[str, LabelScores]

    def calibration(self, *, elsewhere: bool) -> dict[str, Any] | None:
        """Its temperature, fitted on the dev split, and how far its probabilities hold on the test split.

        Args:
            elsewhere: Whether it was trained on another data set: it then keeps the temperature that was fitted there.

        Returns:
            ``None`` where it has no scores.
        """
        if self.stored is None or not self.label_scores:
            return None
        of_test, labels = [self.label_scores[post.id] for post in self.test], [post.label for post in self.test]
        if elsewhere:
            fitted = model_temperature(self.stored.folder)
            temperature = 1.0 if fitted is None else fitted.temperature
        else:
            of_dev = [self.label_scores[post.id] for post in self.dev]
            temperature = fit_temperature(of_dev, [post.label for post in self.dev])
        return {
            "model": self.stored.identity,
            "temperature": temperature,
            "posts": posts_fingerprint(self.test),
            "calibrated": confidence_scores(of_test, labels, temperature),
            "uncalibrated": confidence_scores(of_test, labels, 1.0),
        }
