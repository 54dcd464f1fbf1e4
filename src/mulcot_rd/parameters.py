"""Parameters of a run as a whole; those of each part live beside that part."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from mulcot_rd.schema import InputView, Record


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?", name):
        raise ValueError("a folder gets this name: use letters, digits, _ and -, dots only inside, no blanks")
    return name


def _own_dataset(name: str) -> str:
    if name.casefold() in ("tables", "figures"):
        raise ValueError("the reports of all runs are in a folder of this name: choose another")
    return name


def _own_run(name: str) -> str:
    if name.casefold().startswith("teacher_ledger."):
        raise ValueError("what the runs of a data set share has this name: choose another")
    return name


# From Python a name may be a number.
Name = Annotated[str, BeforeValidator(str), AfterValidator(_folder_name)]


class RunParameters(Record):
    """What a run is: the contract's flat parameters, resolved."""

    model_config = ConfigDict(strict=True)

    dataset: Annotated[Name, AfterValidator(_own_dataset)] = Field(
        description="Data set by name, also the name of its folder"
    )
    arch: int = Field(
        ge=1,
        description="Distillation architecture: one of those configured (paper, Table 2; 5: Appendix G)",
    )
    scale: Literal["tiny", "full"] = Field(
        description="Small random models of the same families, or the paper's models"
    )
    variant: Name = Field(description="What is left out of the method, one of the configured variants (paper, Table 6)")
    name: Annotated[Name, AfterValidator(_own_run)] = Field(description="Name of the run's folders")
    student_run: str | None = Field(
        None,
        pattern="^[^/]+/[^/]+$",
        description="The run whose student is evaluated, as DATASET/RUN; null and the run itself: its own",
    )
    raw_dir: Annotated[str, BeforeValidator(lambda given: str(Path(str(given)).expanduser()))] = Field(
        description="Folder that holds the raw data sets"
    )
    data_root: Annotated[str, BeforeValidator(lambda given: str(Path(str(given)).expanduser()))] = Field(
        "data", description="Folder of every layer but the raw data"
    )
    limit: int | None = Field(None, ge=1, description="Posts a split, the first so many; null takes all")
    seed: int = Field(ge=0, lt=2**31, description="Seed of everything random (42 in the authors' code)")
    engine: Literal["local", "ray"] = Field(description="Where models are trained and asked: here, or on Ray")
    dry_run: bool = Field(False, description="Print what the run takes, do nothing, and end")

    @property
    def trained_on(self) -> str | None:
        """Data set and run that the student was trained on, as reports say it; ``None`` where they are this run's."""
        if self.student_run in (None, f"{self.dataset}/{self.name}"):
            return None
        dataset, _, name = str(self.student_run).partition("/")
        return f"{dataset} (run {name})"


class MethodParameters(Record):
    """What a variant keeps of the method (paper, Table 6, Figure 5 and the starred rows of Tables 3 and 4), or adds."""

    input_view: InputView = Field(description="Modalities of a post that assistant and student see (w/o Img, w/o Txt)")
    tasks: list[Literal["label", "reasoning"]] = Field(
        min_length=1, description="Tasks that are learned and asked for (w/o CoT: label alone)"
    )
    assistant: bool = Field(description="Whether there is an assistant: soft labels and expanded data (w/o Asst: not)")
    trained: bool = Field(description="Whether models are trained; if not they answer as they come, zero-shot")
    task_weights: dict[str, float] = Field(description="lambda_cls and lambda_rea (paper, Section 4.1.3, Figure 5)")
    preference: bool = Field(
        False, description="Whether preference optimisation follows the distillation, which the paper leaves for later"
    )
    faithful_expansion: bool = Field(
        False,
        description="Whether data expansion keeps of the correct reasonings those alone that name their aspect, quote "
        "the post, and conclude no other label; not in the paper",
    )

    @model_validator(mode="after")
    def _has_reasonings_to_prefer(self) -> Self:
        if self.preference and not (self.trained and "reasoning" in self.tasks):
            raise ValueError("preference optimisation needs a trained student that reasons: set preference to false")
        return self

    @property
    def trains_assistant(self) -> bool:
        """Whether there is a trained assistant (Eqs. 5 and 6), and with it soft labels."""
        return self.trained and self.assistant

    @property
    def expands(self) -> bool:
        """Whether the assistant writes reasonings for the training split (Eq. 7)."""
        return self.trains_assistant and "reasoning" in self.tasks


class InputParameters(Record):
    """How posts are turned into model inputs; the same in training, soft labels and evaluation."""

    image_size: int = Field(280, ge=28, description="Side in pixels of the square every image is resized to")
    input_view: InputView = Field(
        InputView(),
        description="Modalities of a post that are read, and how it is asked about (paper, Table 6)",
    )
    captions_needed: bool = Field(False, description="Whether the models read a caption in place of the image")
    tiny_vocabulary_size: int = Field(
        2048,
        ge=300,
        description="Token ids of the tokenizer that is trained for tiny models; full-size ones bring theirs",
    )
