"""Parameters of generation."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from mulcot_rd.credentials import ServerURL, without_password
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.schema import Record

# All other parameters change speed and memory.
_ANSWERS_DEPEND_ON = ("max_retries", "retry_temperature", "retry_top_p", "backend")
_LENGTHS: dict[Task, str] = {"label": "max_label_tokens", "reasoning": "max_new_tokens"}


class ServedParameters(Record):
    """A server that answers in place of a local model."""

    base_url: ServerURL | None = Field(
        None, description="Address of an OpenAI-compatible server (ends in /v1): vLLM, say"
    )
    api_key_env: str | None = Field(None, description="As teacher.api_key_env, for this server")
    model: str | None = Field(None, description="The trained model as the server names it")
    max_concurrency: int = Field(64, ge=1, description="Requests in flight at once")
    max_request_retries: int = Field(6, ge=0, description="Repeats of one request after a transport fault")
    timeout_s: float = Field(300.0, gt=0, description="Longest time that one request may take, in seconds")


class GenerationParameters(Record):
    """How trained models answer (released code: greedy, up to 512 new tokens, batch 24; retries: Appendix E)."""

    batch_size: int = Field(24, ge=1, description="Answers written together; one that ends makes room for the next")
    max_new_tokens: int = Field(512, ge=8, description="Longest reasoning answer, in tokens")
    max_label_tokens: int = Field(16, ge=4, description="Longest label answer, in tokens")
    max_retries: int = Field(
        3, ge=0, description="Further answers asked for where one is unusable (Appendix E); one that is cut is the last"
    )
    samples: int = Field(
        0, ge=0, description="Answers sampled beside the greedy one, usable or not: preference pairs are made of them"
    )
    retry_temperature: float = Field(
        0.7, gt=0, description="Sampling temperature of retries; the first answer is greedy"
    )
    retry_top_p: float = Field(0.9, gt=0, le=1, description="Probability mass that retries sample from")
    backend: Literal["local", "served"] = Field(
        "local", description="Who answers in expansion and evaluation: the model loaded here, or a server"
    )
    served: ServedParameters = Field(ServedParameters(), description="The server, for backend served")

    @model_validator(mode="after")
    def _server_is_known(self) -> "GenerationParameters":
        if self.backend == "served" and not (self.served.base_url and self.served.model):
            raise ValueError("generation.backend=served needs generation.served.base_url and generation.served.model")
        return self

    def local(self) -> "GenerationParameters":
        """The same for a model that is loaded: the address of a server, which may hold a password, goes with no job."""
        return self.model_copy(update={"backend": "local", "served": ServedParameters()})

    def length(self, task: Task) -> int:
        """Longest answer to a task's prompt, in tokens."""
        return self.max_label_tokens if task == "label" else self.max_new_tokens

    def result_settings(self, tasks: Sequence[Task] = TASKS) -> dict[str, Any]:
        """What answers to these tasks depend on: not on how many are written at once, which changes rounding alone."""
        lengths = {_LENGTHS[task] for task in tasks}
        settings = self.model_dump(mode="json", include={*_ANSWERS_DEPEND_ON, *lengths})
        if self.samples:
            settings["samples"] = self.samples
        if self.backend == "served":
            settings["served"] = {"base_url": without_password(str(self.served.base_url)), "model": self.served.model}
        return settings
