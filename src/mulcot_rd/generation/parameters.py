"""Parameters of generation."""

from pydantic import BaseModel, ConfigDict, Field


class GenerationParameters(BaseModel):
    """How trained models answer (METHOD: greedy, up to 512 new tokens, batch 24; Appendix E)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(24, ge=1, description="Answers written together; one that ends makes room for the next")
    group_size: int | None = Field(
        None,
        ge=1,
        description="Posts whose answers are kept together: a kill loses at most those of one group, and answers "
        "never depend on other groups; null takes eight times batch_size",
    )
    max_new_tokens: int = Field(512, ge=8, description="Longest reasoning answer, in tokens")
    max_label_tokens: int = Field(16, ge=4, description="Longest label answer, in tokens")
    max_retries: int = Field(3, ge=0, description="Further answers asked for where one is unusable (Appendix E)")
    retry_temperature: float = Field(
        0.7, gt=0, description="Sampling temperature of retries; the first answer is greedy"
    )
    retry_top_p: float = Field(0.9, gt=0, le=1, description="Probability mass that retries sample from")
    draft_tokens: int = Field(
        7,
        ge=0,
        description="Tokens guessed ahead from answers written before in the group, and checked in one step; 0 writes "
        "one at a time. The texts are the same either way",
    )
    merge_adapter: bool = Field(
        True,
        description="Add the low-rank updates to the weights while answers are written: fewer operations a token. "
        "Equal in exact arithmetic; rounding differs",
    )

    @property
    def posts_a_group(self) -> int:
        """Posts whose answers are kept together."""
        return self.group_size or 8 * self.batch_size
