"""What a user can set about the teacher, each with its unit and its source."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mulcot_rd.credentials import KEY_HELP, ServerURL, is_openai, server_key
from mulcot_rd.files import UserPath
from mulcot_rd.prompts import Send
from mulcot_rd.schema import Record
from mulcot_rd.teacher.capabilities import StructuredOutput
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.prices import ModelPrice, list_prices


class BatchParameters(Record):
    """The group ``teacher.batch``: how the Batch API is used with ``teacher.mode=batch``."""

    poll_seconds: float = Field(30.0, gt=0, description="Time between two looks at a batch's state, in seconds.")
    max_requests: int = Field(50_000, ge=1, description="Most questions of one batch (OpenAI: 50,000).")
    max_megabytes: int = Field(200, ge=1, description="Largest input file of one batch, in 10^6 bytes (OpenAI: 200).")


class CaptionParameters(Record):
    """The group ``teacher.captions``: who describes images to text-only models; the rest is as for the teacher."""

    provider: Literal["offline", "openai"] = Field(
        "offline",
        description="Who captions: rules over the pixels, which recognise no objects, or an OpenAI-compatible server.",
    )
    fallback_provider: Literal["offline"] | None = Field(
        None,
        description="Who captions the images that the server gave no usable caption for: the rules, or null, nobody.",
    )
    base_url: ServerURL | None = Field(
        None, description="Address of the captioner's server (ends in /v1); null is the OpenAI API itself."
    )
    api_key_env: str | None = Field(None, description="As teacher.api_key_env, for the captioner's server.")
    model: str = Field("openbmb/MiniCPM-o-2_6", description="Captioner as the server knows it (paper, Appendix G).")
    mode: Literal["online", "batch"] = Field("online", description="One request at a time, or the Batch API.")
    max_words: int = Field(
        80, ge=5, description="Longest caption asked for, in words; one half longer is asked again (our choice)."
    )
    max_tokens: int = Field(256, ge=8, description="Longest caption, in tokens (our choice).")


class TeacherParameters(Record):
    """The parameters group ``teacher``; unknown keys are refused."""

    provider: Literal["offline", "openai", "import"] = Field(
        "offline",
        description="Who annotates: the rule-based annotator, an OpenAI-compatible server, or a file of reasonings.",
    )
    fallback_provider: Literal["offline", "openai"] = Field(
        "offline", description="Who writes what an import lacks; used with provider=import alone."
    )
    import_path: UserPath | None = Field(None, description="JSONL file of existing reasonings, for provider=import.")
    base_url: ServerURL | None = Field(
        None, description="Address of an OpenAI-compatible server (ends in /v1); null is the OpenAI API itself."
    )
    api_key_env: str | None = Field(
        None,
        description="Environment variable with the server's key; null is OPENAI_API_KEY for OpenAI, none for "
        "any other server.",
    )
    model: str = Field("gpt-4o-mini", description="Model name as the server knows it (paper, Table 2).")
    send: Send = Field(
        "image",
        description="What the teacher gets of a post's image: the image, its caption in place of it (text-only "
        "teachers, paper, Appendix G), or nothing (text-only posts).",
    )
    max_concurrency: int = Field(16, ge=1, description="Requests in flight at once.")
    structured_output: StructuredOutput = Field(
        "auto",
        description="How the answer's format is sent (response_format): as json_schema, as json_object with a schema, "
        "or off, not at all; auto tries them in this order and remembers beside the ledger what the server takes.",
    )
    max_retries: int = Field(
        3, ge=0, description="Further answers asked for after an unusable one, a stage (paper, Appendix E: 3)."
    )
    max_request_retries: int = Field(
        6, ge=0, description="Repeats of one request after a transport fault (429, 5xx, timeout, lost connection)."
    )
    backoff_s: float = Field(
        0.5, gt=0, description="First wait after a transport fault, in seconds; it doubles each time, up to 60."
    )
    timeout_s: float = Field(120.0, gt=0, description="Longest time that one request may take, in seconds.")
    temperature: float = Field(
        0.0, ge=0, le=2, description="Sampling temperature; 0 is greedy (the paper's own runs give none)."
    )
    max_tokens: int = Field(1024, ge=1, description="Longest answer, in tokens.")
    mode: Literal["online", "batch"] = Field("online", description="One request at a time, or the Batch API.")
    batch: BatchParameters = Field(BatchParameters(), description="The Batch API's own settings.")
    captions: CaptionParameters = Field(CaptionParameters(), description="Captions for text-only models.")
    prices: dict[str, ModelPrice] = Field(
        {}, description="Prices of models that prices.json lacks or has otherwise, by model name; see ModelPrice."
    )
    budget_usd: float | None = Field(
        None,
        gt=0,
        description="Most that all annotations of one ledger may cost together, in US dollars; null is no bound.",
    )
    dry_run: bool = Field(False, description="Print the requests, tokens and cost to expect, ask nothing, and stop.")
    image_size: int = Field(
        280, ge=28, description="Side in pixels of the square that every image is sent as (280 in the authors' code)."
    )

    @property
    def writer(self) -> Literal["offline", "openai"]:
        """The provider that writes answers: ``provider``, or for an import its fallback."""
        return self.fallback_provider if self.provider == "import" else self.provider

    @property
    def price(self) -> ModelPrice:
        """The model's price by its exact name: from ``prices``, else from ``prices.json``, else an empty one."""
        return self.prices.get(self.model) or list_prices().get(self.model, ModelPrice())

    def for_captions(self) -> "TeacherParameters":
        """The same parameters with the captioner in the teacher's place."""
        captioner = self.captions.model_dump(exclude={"fallback_provider", "max_words"})
        return self.model_copy(update={**captioner, "import_path": None, "send": "image"})

    def key(self, api_key: str | None) -> str | None:
        """The server's key: the one given, or what :func:`~mulcot_rd.credentials.server_key` finds.

        Raises:
            TeacherError: If OpenAI is asked without a key, or the key can't be sent.
        """
        try:
            key = server_key(self.base_url, api_key, self.api_key_env)
        except ValueError as error:
            raise TeacherError(str(error)) from None
        if key is None and is_openai(self.base_url):
            raise TeacherError(
                f"teacher.provider=openai needs an API key: {KEY_HELP}, or point teacher.base_url at your own server"
            )
        return key

    @model_validator(mode="after")
    def _supported(self) -> Self:
        if self.provider == "import" and self.import_path is None:
            raise ValueError("teacher.provider=import needs teacher.import_path, the JSONL file of reasonings to take")
        if self.provider != "import" and self.import_path is not None:
            raise ValueError("teacher.import_path is read only with teacher.provider=import: set that, or leave it out")
        for group, own in (("teacher", self), ("teacher.captions", self.for_captions())):
            if own.writer == "offline" and (own.base_url is not None or own.mode == "batch"):
                named = f"{group}.mode=batch" if own.base_url is None else f"{group}.base_url"
                raise ValueError(f"{named} is read only with {group}.provider=openai: set that, or leave it out")
            if own.writer == "offline" or self.budget_usd is None:
                continue
            if own.price.input_usd is None:
                raise ValueError(
                    f"teacher.budget_usd needs the price of {own.model!r}: add it to teacher.prices, or leave the "
                    "budget null"
                )
            if own.send == "image" and own.price.images is None:
                raise ValueError(
                    f"teacher.budget_usd needs to know how {own.model!r} counts an image: add images to its row of "
                    "teacher.prices, or set teacher.send to what it reads"
                )
        return self
