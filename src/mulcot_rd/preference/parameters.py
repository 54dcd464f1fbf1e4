"""Parameters of preference pairs and of the training on them."""

from pydantic import Field

from mulcot_rd.schema import Record
from mulcot_rd.training.parameters import PreferenceTrainingParameters


class PairParameters(Record):
    """How pairs of reasonings are made."""

    samples: int = Field(
        4, ge=1, description="Reasonings sampled from the student a training post, beside the greedy one"
    )
    temperature: float = Field(1.0, gt=0, description="Sampling temperature")
    top_p: float = Field(0.95, gt=0, le=1, description="Probability mass that is sampled from")
    margin: float = Field(
        0.5, gt=0, description="Checks that the chosen reasoning passes more, at least; of quotes the share counts"
    )
    pairs_per_post: int = Field(2, ge=1, description="Pairs of one kind that a post gives at most, the widest margins")
    shortest: float = Field(
        0.67, gt=0, le=1, description="Words of a reasoning at least, as a share of the median of the teacher's"
    )
    longest: float = Field(1.5, ge=1, description="Words at most, as a share of that median")
    judged_posts: int = Field(
        0,
        ge=0,
        description="Training posts of whose reasonings a judge reads the conclusion, the first so many; asks the "
        "server of judge.teacher, which costs. 0 asks nobody",
    )
    shuffled: bool = Field(
        False, description="Control: chosen and rejected change places at random, so that there is nothing to learn"
    )


class PreferenceParameters(Record):
    """Preference optimisation of a distilled student, which the paper leaves for future work."""

    pairs: PairParameters = Field(PairParameters(), description="The pairs")
    training: PreferenceTrainingParameters = Field(description="The training on them")
    seed: int = Field(ge=0, lt=2**31, description="Seed of the control's order")
