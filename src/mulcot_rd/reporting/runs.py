"""What the runs on disk say of themselves: scores, costs, predictions."""

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.reporting.cells import CLASSIFICATION_METRICS, REASONING_METRICS, percent
from mulcot_rd.reporting.sources import source_of_run, source_of_teacher

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
    """Which run a ``metrics.json`` belongs to; ``version`` names one that was asked for in place of the newest.

    ``training`` is a hash of what its models were trained with, ``parameters`` are hashes of what variants share, by
    part of the method; earlier versions wrote fewer of them.
    """

    dataset: str
    run: str
    arch: int
    scale: Literal["tiny", "full"]
    variant: str
    seed: int
    limit: int | None = None
    posts: str | None = None
    teacher: str | None = None
    teacher_provider: str | None = None
    training: str | None = None
    parameters: dict[str, str] = Field(default_factory=dict)
    checkpoints: list[str] = Field(default_factory=list)
    served: str | None = None
    aspects: bool = True
    captions: str | None = None
    trained_on: str | None = None
    version: str | None = None

    @property
    def source(self) -> str:
        """How numbers of its models are named wherever they appear."""
        source = source_of_run(self.scale, self.model_dump())
        return source if self.version is None else f"{source}; version {self.version}"

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


class PairKind(BaseModel):
    """Preference pairs of one kind; see :func:`mulcot_rd.preference.pairs.pair_statistics`."""

    pairs: int
    posts: int
    margin: float | None = None
    chosen_words: float | None = None
    rejected_words: float | None = None
    better: dict[str, Fraction] = Field(default_factory=dict)


class PairCounts(BaseModel):
    """A ``preference.json``: training posts, reasonings that were sampled, complete ones among them, pairs by kind."""

    posts: int
    samples: int
    complete: int
    kinds: dict[str, PairKind]


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
    """A ``metrics.json`` as far as the tables need it, with what belongs to it: costs, qualities, data expansion.

    ``answers`` names the files of the predictions that it scores, by dataset name.

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
    preference: PairCounts | None = None
    answers: dict[str, Path] = Field(default_factory=dict)

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """The scores of each model that was measured, as fractions by metric name."""
        blocks = self.__pydantic_extra__.items()
        return {name: block for name, block in blocks if isinstance(block, dict) and block.get("accuracy") is not None}

    @property
    def teacher_source(self) -> str:
        """How numbers of the teacher are named."""
        return source_of_teacher(self.run.model_dump())

    def identity(self, method: str) -> dict[str, Any]:
        """The cells of :data:`IDENTITY`."""
        return dict(zip(IDENTITY, (self.run.dataset, method, self.run.run, self.run.source), strict=True))


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
            info.captions,
            info.served,
            info.trained_on,
            *info.checkpoints,
        )
        groups[key][info.seed] = run
    found = []
    for group in groups.values():
        members = [group[seed] for seed in sorted(group)]
        # Runs of earlier versions don't say with which parameters they were made, or not with all of them.
        told = [name for name in ("training", "parameters") if all(getattr(run.run, name) for run in members)]
        alike: dict[str, list[RunMetrics]] = defaultdict(list)
        for run in members:
            alike[fingerprint(*(getattr(run.run, name) for name in told))].append(run)
        found += [runs for runs in alike.values() if len(runs) > 1]
    return found
