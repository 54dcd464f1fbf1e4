"""Parameters of training: the paper's values are those of the full-size configuration."""

from typing import Annotated, Literal

from pydantic import Field

from mulcot_rd.distributed import ClusterParameters
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.models import BackboneParameters
from mulcot_rd.parameters import InputParameters, MethodParameters
from mulcot_rd.prompts import Task
from mulcot_rd.schema import Record
from mulcot_rd.training.objective import StudentLossWeights, TaskWeights
from mulcot_rd.training.preference_loss import LossType


class ValidationParameters(Record):
    """How an epoch is scored on the dev split; the best epoch's adapter is kept."""

    tasks: list[Task] = Field(
        ["label", "reasoning"],
        min_length=1,
        description="Prompts that are answered, of those that are learned; the score is the mean over them",
    )
    metric: Literal["accuracy", "macro_f1", "weighted_f1"] = Field(
        "accuracy", description="Score of the labels read from the answers, a fraction"
    )
    posts: int | None = Field(None, ge=1, description="Dev posts to score, the first so many; null scores all")
    max_new_tokens: int = Field(512, ge=8, description="Longest reasoning answer, in tokens")
    max_label_tokens: int = Field(16, ge=4, description="Longest label answer, in tokens")


class OptimisationParameters(Record):
    """Optimiser, schedule and batches (paper, Section 4.1.3)."""

    epochs: int = Field(20, ge=1, description="Epochs at most (Section 4.1.3)")
    batch_size: int = Field(2, ge=1, description="Rows of a micro-batch (Section 4.1.3)")
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens of a micro-batch at most, padding included, in place of batch_size rows; a step still "
        "holds batch_size x gradient_accumulation_steps rows, and its loss is the same. Null takes batch_size rows",
    )
    gradient_accumulation_steps: int = Field(
        20, ge=1, description="Micro-batches of one optimiser step (Section 4.1.3)"
    )
    learning_rate: float = Field(3e-4, gt=0, description="Initial learning rate of AdamW (Section 4.1.3)")
    lr_factors: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="What the rate is multiplied by for trained parameters whose name contains the key, such as new "
        "layers between pretrained ones; of several keys the first counts",
    )
    min_lr: float = Field(1e-6, ge=0, description="Lowest learning rate of the schedule (Section 4.1.3)")
    lr_schedule: Literal["plateau", "linear"] = Field(
        "plateau",
        description="plateau reduces the rate when the score stays (lr_patience, lr_factor; Section 4.1.3); linear "
        "lets it fall with each step, to min_lr at the end of the last epoch",
    )
    lr_patience: int = Field(2, ge=1, description="Epochs without a better score until the rate is reduced (4.1.3)")
    lr_factor: float = Field(0.5, gt=0, lt=1, description="What the rate is then multiplied by (Section 4.1.3)")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Epochs without a better score until training ends early; null never does"
    )
    warmup_steps: int = Field(0, ge=0, description="Steps over which the rate rises linearly; none in the paper")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay (PyTorch's default)")
    max_grad_norm: float | None = Field(1.0, gt=0, description="Norm that gradients are clipped to; null clips none")
    checkpoint_minutes: float = Field(
        1.0,
        ge=0,
        description="Minutes between checkpoints, of which one is always written before an epoch is scored; a kill "
        "loses at most the steps since the last. 0 writes one each step",
    )
    validation: ValidationParameters = Field(ValidationParameters(), description="Scoring of an epoch")


class AssistantTrainingParameters(Record):
    """Training of the assistant (Eqs. 5 and 6)."""

    weights: TaskWeights = Field(TaskWeights(), description="lambda_cls and lambda_rea of Eq. 6 (Section 4.1.3)")
    optimisation: OptimisationParameters = Field(description="Optimiser, schedule and batches")

    @property
    def task_weights(self) -> TaskWeights:
        """The weights of the two tasks."""
        return self.weights


class StudentTrainingParameters(Record):
    """Distillation of the student (Eqs. 9 to 13)."""

    weights: StudentLossWeights = Field(StudentLossWeights(), description="Weights of Eqs. 10, 12 and 13")
    optimisation: OptimisationParameters = Field(description="Optimiser, schedule and batches")

    @property
    def task_weights(self) -> TaskWeights:
        """The weights of the two tasks' hard-label losses (Eq. 12)."""
        return self.weights.hard


class PreferenceTrainingParameters(Record):
    """Preference optimisation of the student (:mod:`mulcot_rd.preference`); not in the paper. Names are TRL's."""

    beta: float = Field(
        0.1,
        gt=0,
        description="What the log-ratio of policy to reference counts: the smaller, the further from its start",
    )
    loss_type: LossType = Field(
        "sigmoid", description="sigmoid is DPO, sigmoid_norm DPO on log-ratios a token, ipo IPO, also a token"
    )
    rpo_alpha: float = Field(
        1.0, ge=0, description="Weight of the chosen reasonings' cross-entropy (RPO; Pang et al., 2024), 0 for none"
    )
    label_weight: float = Field(0.2, ge=0, description="Weight of the label task's cross-entropy (Eq. 9)")
    optimisation: OptimisationParameters = Field(description="Optimiser, schedule and batches; a row is a pair")

    @property
    def task_weights(self) -> TaskWeights:
        """The weights of the two cross-entropies beside the preference loss."""
        return TaskWeights(label=self.label_weight, reasoning=self.rpo_alpha)


class ModelParameters(Record):
    """All that assistant or student is made and asked with."""

    backbone: BackboneParameters = Field(description="The model, and what of it is trained")
    training: AssistantTrainingParameters | StudentTrainingParameters | PreferenceTrainingParameters = Field(
        description="Objective and optimisation"
    )
    generation: GenerationParameters = Field(description="How it answers")
    inputs: InputParameters = Field(description="How posts are turned into its inputs")
    method: MethodParameters = Field(description="What the variant keeps of the method")
    cluster: ClusterParameters = Field(ClusterParameters(), description="Where it is trained and asked")
    seed: int = Field(ge=0, lt=2**31, description="Seed of adapter, order, dropout and sampling")
