"""The records of the project: one pydantic class for every row that is written to disk.

Everything above this module speaks in these types; this module knows nothing of what is above it.
"""

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
# A text that is longer was not meant as one post, and would take the memory of hundreds.
MAX_CHARACTERS = 10_000


def length_fault(name: str, text: str) -> str | None:
    """What is wrong with the length of a post's text, aspect or caption."""
    return (
        f"{name} of {len(text):,} characters: at most {MAX_CHARACTERS:,} are read"
        if len(text) > MAX_CHARACTERS
        else None
    )


class Sentiment(StrEnum):
    """The three sentiment classes of all four data sets (paper, Section 3.1)."""

    NEGATIVE = "negative"
    NEUTRAL = "neutral"
    POSITIVE = "positive"


class Record(BaseModel):
    """A row of a JSONL file, or a group of parameters: unknown fields are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PostContent(Record):
    """What a model reads of a post: ``x_i`` (paper, Section 3.1).

    ``aspect`` is the aspect term of fine-grained data sets and ``None`` in coarse-grained ones.
    ``image`` is the path of the image file, ``None`` for models that see no image. ``caption`` is a text in place of
    the image for text-only models (Appendix G); it is kept in a file of its own and joined in memory, never part of the
    posts table.
    """

    id: str
    text: str
    aspect: str | None
    image: str | None
    caption: str | None = None


class Post(PostContent):
    """A post of a data set: its content, its split and its gold label ``L_i`` (paper, Section 3.1)."""

    split: Split
    image: str
    label: Sentiment


class InputView(Record):
    """The input view of assistant and student: which modalities of a post they see, and which prompts they are asked.

    ``prompts`` is "trained" for the prompts that models are trained on and "prediction" for the teacher's ``T_pre``
    (Eq. 2), which base models are asked zero-shot.
    """

    image: bool = True
    text: bool = True
    prompts: Literal["trained", "prediction"] = "trained"

    @model_validator(mode="after")
    def _sees_something(self) -> Self:
        if not (self.image or self.text):
            raise ValueError("an input view without image and text leaves nothing to judge: set one of them true")
        if self.prompts == "prediction" and not self.text:
            raise ValueError("the prediction prompt holds the text: without text, set prompts to trained")
        return self


class Rejected(Record):
    """A raw row that ingest left out. ``row`` names it as its own file does (line number or id)."""

    split: str
    row: str
    reason: str


class Reasoning(Record):
    """The four-section reasoning ``c_i`` and the label read from it (paper, Section 3.2 and Figure 6).

    A section that the answer lacks is the empty string; a label that cannot be read is ``None``.
    """

    text_analysis: str = ""
    image_analysis: str = ""
    conflict_resolution: str = ""
    final_conclusion: str = ""
    prediction: Sentiment | None = None

    @property
    def sections(self) -> dict[str, str]:
        """The four sections by field name, in the order of the response format."""
        return {
            "text_analysis": self.text_analysis,
            "image_analysis": self.image_analysis,
            "conflict_resolution": self.conflict_resolution,
            "final_conclusion": self.final_conclusion,
        }

    @property
    def reasoning(self) -> "Reasoning":
        """The reasoning alone, without what a record adds to it."""
        return Reasoning(**self.sections, prediction=self.prediction)

    @property
    def problems(self) -> list[str]:
        """What makes the answer unusable, in words that can be sent back to a model (Appendix E)."""
        missing = [f'the section "{name.capitalize()}" is missing' for name, text in self.sections.items() if not text]
        if self.prediction is None:
            missing.append('"Prediction" is not one of positive, neutral, negative')
        return missing


class Usage(Record):
    """Tokens that an answer cost, as the server counted them; zero for an offline annotator."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class CaptionRecord(Record):
    """One row of ``captions.jsonl``: what an image shows, in words (paper, Appendix G).

    ``image`` is the path as posts have it; ``attempts`` counts the answers that were asked for, the usable one
    included.
    """

    image: str
    caption: str
    model: str
    attempts: int = Field(ge=1)
    usage: Usage = Usage()


class TeacherRecord(Reasoning):
    """One row of ``teacher_reasoning.jsonl`` and ``teacher_references.jsonl`` (Eqs. 2 to 4).

    ``stage`` is 1 where the teacher was not told the label and 2 where it was; ``attempts`` counts the
    answers that were asked for in that stage, the usable one included. ``post_fingerprint`` is that of the post it was
    made from, as in the other records that are made of posts; files of earlier versions have none.
    """

    id: str
    stage: Literal[1, 2]
    label: Sentiment
    attempts: int = Field(ge=1)
    model: str
    usage: Usage = Usage()
    post_fingerprint: str | None = None


class ExpansionRecord(Reasoning):
    """One reasoning that the assistant wrote for a training post (Eq. 7)."""

    id: str
    label: Sentiment
    attempts: int = Field(ge=1)
    raw_text: str
    post_fingerprint: str | None = None


class TemperatureRecord(Record):
    """One row of ``temperatures.jsonl``: what the label scores of one trained model are divided by.

    ``model`` is what identifies its weights (:func:`mulcot_rd.models.loaded.model_identity`).
    """

    model: str
    role: str
    temperature: float = Field(gt=0)


class TrainingRow(Record):
    """One row of a training set: a post, the reasoning it is trained on, and who wrote that (Eq. 8)."""

    post_id: str
    source: Literal["teacher", "assistant"]
    reasoning: Reasoning
    post_fingerprint: str | None = None


class PreferencePair(Record):
    """Two reasonings about one training post, of which the chosen one is better by what can be checked.

    ``kind`` tells who wrote the rejected one: "sampled", the student itself, as the chosen one; "assistant", whose
    reasoning came to a wrong label; "teacher", whose stage one did, beside its stage two. The checks are those of
    :func:`mulcot_rd.preference.scoring.checks`; ``margin`` is their difference.
    """

    post_id: str
    kind: Literal["sampled", "assistant", "teacher"]
    chosen: Reasoning
    rejected: Reasoning
    chosen_checks: dict[str, float]
    rejected_checks: dict[str, float]
    margin: float
    post_fingerprint: str | None = None


class Verdict(Record):
    """What a trained model says of one post: the label, how sure it is, and why.

    ``label`` is read from the answer to the label prompt, ``reasoning_label`` from the reasoning; either is ``None``
    where no label could be read. A model that was trained without the label prompt gives the label of its reasoning.
    ``probabilities`` are those of the three labels after the label prompt, by label; they add up to 1. They are
    ``None`` where there is no label prompt, or a server answers. ``attempts`` counts reasoning answers,
    ``label_attempts`` label answers; either is 0 where that prompt was not asked. The raw texts are the answers as
    generated.
    """

    label: Sentiment | None
    probabilities: dict[Sentiment, float] | None
    text_analysis: str
    image_analysis: str
    conflict_resolution: str
    final_conclusion: str
    reasoning_label: Sentiment | None
    attempts: int = Field(ge=0)
    label_attempts: int = Field(ge=0)
    raw_text: str
    raw_label_text: str

    @property
    def agrees(self) -> bool | None:
        """Whether label prompt and reasoning come to the same label; ``None`` where only one was asked."""
        if not (self.attempts and self.label_attempts):
            return None
        return self.label is not None and self.label == self.reasoning_label


class PredictionRecord(Record):
    """What a model answered for one post of an evaluated split, to both prompts.

    ``prediction`` is read from the answer to the label prompt, ``reasoning_prediction`` from the
    answer to the reasoning prompt; both are ``None`` where no label could be read. ``raw_text`` is the
    reasoning answer as generated, ``raw_label_text`` the label answer. ``attempts`` counts reasoning
    answers, ``label_attempts`` label answers; either is 0 where that prompt was not asked (a model without the label
    prompt predicts what its reasoning comes to).
    """

    id: str
    label: Sentiment
    prediction: Sentiment | None
    reasoning_prediction: Sentiment | None
    text_analysis: str
    image_analysis: str
    conflict_resolution: str
    final_conclusion: str
    raw_text: str
    raw_label_text: str
    attempts: int = Field(ge=0)
    label_attempts: int = Field(ge=0)
    post_fingerprint: str | None = None

    @property
    def reasoning(self) -> Reasoning:
        """The reasoning alone, with the label that was read from it."""
        return Reasoning(
            text_analysis=self.text_analysis,
            image_analysis=self.image_analysis,
            conflict_resolution=self.conflict_resolution,
            final_conclusion=self.final_conclusion,
            prediction=self.reasoning_prediction,
        )
