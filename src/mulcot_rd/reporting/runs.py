"""What the runs on disk say of themselves: scores, costs, predictions."""

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mulcot_rd.files import read_bytes, read_text
from mulcot_rd.reporting.cells import CLASSIFICATION_METRICS, REASONING_METRICS, percent
from mulcot_rd.reporting.sources import source_of_run, source_of_teacher
from mulcot_rd.schema import PredictionRecord
from mulcot_rd.versions import newest

logger = logging.getLogger(__name__)

# The paper's ablations (Table 6), by the variant's name.
ABLATIONS = {"no_image": "w/o Img", "no_text": "w/o Txt", "no_cot": "w/o CoT", "no_assistant": "w/o Asst"}

# Other weights of the two tasks (Figure 5).
OTHER_WEIGHTS = "weights_"

# Columns that say whose numbers a row holds.
IDENTITY = ("dataset", "method", "run", "source")

Fraction = Annotated[float, Field(ge=-1, le=1)]


class _Counts(BaseModel):
    """Counts and intervals, which stand in a block of scores beside single fractions."""

    reasonings: int | None = None
    quotes: int | None = None
    judged: int | None = None
    accuracy_interval: tuple[Fraction, Fraction] | None = None
    judged_entails_interval: tuple[Fraction, Fraction] | None = None
    intervals: dict[str, tuple[Fraction, Fraction]] = Field(default_factory=dict)


def _with_fractions(block: Any) -> Any:
    """A block of scores as it is; whatever is a fraction in it must be one."""
    if isinstance(block, dict):
        _Counts.model_validate(block)
        for name, value in block.items():
            if isinstance(value, float) or name in (*CLASSIFICATION_METRICS, *REASONING_METRICS):
                percent(value, name)
    return block


Scores = Annotated[dict[str, Any], AfterValidator(_with_fractions)]


class RunInfo(BaseModel):
    """Which run a ``metrics.json`` belongs to."""

    dataset: str
    run: str
    arch: int
    scale: Literal["tiny", "full"]
    variant: str
    seed: int
    limit: int | None = None
    posts: str | None = None
    teacher: str | None = None
    checkpoints: list[str] = Field(default_factory=list)
    served: str | None = None
    aspects: bool = True
    captions: str | None = None
    trained_on: str | None = None

    @property
    def source(self) -> str:
        """How numbers of its models are named wherever they appear."""
        return source_of_run(self.scale, self.model_dump())

    @property
    def of_posts(self) -> str:
        """Equal for runs on the same posts: their fingerprint, or the limit, all that earlier versions wrote."""
        return self.posts or f"limit {self.limit}"

    @property
    def without_seed(self) -> str:
        """The run's name without its seed: runs that share it differ in their seed alone."""
        return self.run.removesuffix(f"-seed{self.seed}")


class Expansion(BaseModel):
    """The assistant on the training split (Table 8); scores are fractions, ``kept`` the rows that Eq. 7 keeps.

    A variant that doesn't expand the data has no scores; ``intervals`` holds the ends of each score's interval.
    """

    samples: int
    kept: int
    accuracy: Fraction | None
    weighted_f1: Fraction | None
    macro_f1: Fraction | None
    intervals: dict[str, tuple[Fraction, Fraction]] = Field(default_factory=dict)


class SplitSizes(BaseModel):
    """Posts a split, and rows of the student's training set (Table 1)."""

    train: int
    dev: int
    test: int
    train_plus: int | None = None


class PromptCost(BaseModel):
    """One prediction by one prompt; see :func:`mulcot_rd.metrics.efficiency.measure_efficiency`."""

    tflops: float
    latency_ms_median: float
    latency_ms_p90: float
    posts: int
    memory_gb: float
    memory_of: str


class ModelCost(BaseModel):
    """A model in ``efficiency.json``."""

    model: str
    device: str
    dtype: str
    parameters: int
    trainable_parameters: int
    trainable_percent: float
    prompts: dict[str, PromptCost] = Field(min_length=1)


class RunMetrics(BaseModel):
    """A ``metrics.json`` as far as the tables need it, with what stands beside it: costs, qualities, data expansion.

    Every further block that holds an accuracy is a model of the run, such as ``assistant`` or ``student``.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_with_fractions)]]

    run: RunInfo
    teacher: Scores = Field(default_factory=dict)
    references: dict[str, Fraction] = Field(default_factory=dict)
    expansion: Expansion | None = None
    dataset: SplitSizes | None = None
    efficiency: dict[str, ModelCost] = Field(default_factory=dict)
    quality: dict[str, Any] = Field(default_factory=dict)

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """The scores of each model that was measured, as fractions by metric name."""
        blocks = self.__pydantic_extra__.items()
        return {name: block for name, block in blocks if isinstance(block, dict) and block.get("accuracy") is not None}

    @property
    def teacher_source(self) -> str:
        """How numbers of the teacher are named."""
        return source_of_teacher(self.run.teacher)

    def identity(self, method: str) -> dict[str, Any]:
        """The cells of :data:`IDENTITY`."""
        return dict(zip(IDENTITY, (self.run.dataset, method, self.run.run, self.run.source), strict=True))


# Files beside metrics.json, by name: what each holds, and the pipeline that writes it.
_BESIDE: dict[str, tuple[TypeAdapter[Any], str]] = {
    "efficiency": (TypeAdapter(dict[str, ModelCost]), "evaluation"),
    "quality": (TypeAdapter(dict[str, Scores | None]), "evaluation"),
    "expansion": (TypeAdapter(Expansion), "data_expansion"),
}


@contextmanager
def left_out(what: str) -> Iterator[None]:
    """Go on where a file of some run can't be used; the log says what is left out, and names the file and the cure."""
    try:
        yield
    except ValueError as error:
        logger.warning("%s left out of the reports: %s", what, error)


def read_runs(folder: Path) -> list[RunMetrics]:
    """Read the newest version of every ``<dataset>/<run>/metrics.json`` below a folder, in the order of their paths.

    A run whose files can't be read, or belong to another folder, is left out; the log names the file and the cure.
    """
    runs = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        with left_out(f"run {path.parent.name} on {path.parent.parent.name}"):
            runs.append(_read_run(path.parent))
    return runs


def _read_run(folder: Path) -> RunMetrics:
    file = newest(folder / "metrics.json")
    run: RunMetrics = _read(TypeAdapter(RunMetrics), file, "evaluation")
    if (run.run.dataset, run.run.run) != (folder.parent.name, folder.name):
        raise ValueError(f"{file} holds run {run.run.run} on {run.run.dataset}: move it to the folder of that run")
    beside = {name: (newest(folder / f"{name}.json"), *about) for name, about in _BESIDE.items()}
    found = {name: _read(kind, path, pipeline) for name, (path, kind, pipeline) in beside.items() if path.is_file()}
    return run.model_copy(update=found)


def seed_groups(runs: list[RunMetrics]) -> list[list[RunMetrics]]:
    """Groups of two runs or more on one data set that differ in their seed alone, each in the order of seeds."""
    groups: dict[tuple[Any, ...], dict[int, RunMetrics]] = defaultdict(dict)
    for run in runs:
        info = run.run
        key = (
            info.dataset,
            info.without_seed,
            info.arch,
            info.scale,
            info.variant,
            info.of_posts,
            info.teacher,
            info.served,
            info.trained_on,
            *info.checkpoints,
        )
        groups[key][info.seed] = run
    return [[group[seed] for seed in sorted(group)] for group in groups.values() if len(group) > 1]


def read_predictions(outputs: Path, info: RunInfo) -> dict[str, list[PredictionRecord]]:
    """The test predictions of a run by model, from ``<dataset>/<run>/<model>_test.jsonl`` below a folder.

    A file that can't be read, or holds a line that is no prediction, is left out; the log names it and the cure.
    """
    found = {}
    for file in sorted((outputs / info.dataset / info.run).glob("*_test.jsonl")):
        with left_out(f"answers of run {info.run} on {info.dataset}"):
            found[file.name.removesuffix("_test.jsonl")] = _read_answers(newest(file))
    return found


def _read_answers(file: Path) -> list[PredictionRecord]:
    records = []
    text = read_text(file, ValueError).removesuffix("\n")
    # There is none of a model that a run does without.
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            records.append(PredictionRecord.model_validate_json(line))
        except ValidationError as error:
            raise ValueError(
                f"{file}: line {number} is no prediction ({error.errors()[0]['msg']}): run the evaluation pipeline of "
                "it again"
            ) from error
    return records


def _read(kind: TypeAdapter[Any], file: Path, pipeline: str) -> Any:
    try:
        return kind.validate_json(read_bytes(file, ValueError))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{file}: {place}: {first['msg']}; run the {pipeline} pipeline of it again") from error
