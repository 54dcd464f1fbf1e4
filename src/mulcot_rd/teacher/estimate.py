"""What an annotation would take, before anything is asked.

The annotation is rehearsed on what import file and ledger have: the same controller walks every post to the first
question that has no answer yet. What follows from there is estimated from the answers so far, or where they are too few
from assumptions that are printed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, quantiles

from tokenizers import Tokenizer

from mulcot_rd.progress import progress
from mulcot_rd.schema import Post, Reasoning
from mulcot_rd.teacher.controller import Outcome, annotate_reference, annotate_training_post
from mulcot_rd.teacher.errors import RequestFailedError, TeacherError
from mulcot_rd.teacher.importer import ImportingTeacher, import_for
from mulcot_rd.teacher.ledger import Ledger, question_key
from mulcot_rd.teacher.offline import OfflineTeacher
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.prices import CHARACTERS_PER_TOKEN, Pricing, pricing_of
from mulcot_rd.teacher.provider import Answer, Provider, Request, Unusable
from mulcot_rd.teacher.summary import PAPER_VALID_WITHIN_TWO

# As many answers in the ledger speak for themselves; with fewer the assumptions below stand.
ENOUGH_ANSWERS = 20
# Appendix E: the share that is unusable twice is the square of this.
UNUSABLE_SHARE = math.sqrt(1 - PAPER_VALID_WITHIN_TWO)
# Mean of the teachers' zero-shot accuracies in Tables 3 and 4, which go from 0.494 to 0.767.
STAGE_ONE_ACCURACY = 0.6465
# Mean over the 800 reasonings of Qwen2.5-VL-72B that the authors released, by o200k_base; nine in ten have 192 to 319.
ANSWER_TOKENS = 250.0
# Prompts that a dry run tokenises, spread over the posts.
TOKENISED_PROMPTS = 32
# A plain guess: 250 tokens at 60 a second, and a second until the first.
LATENCY_S = 5.0


@dataclass(frozen=True)
class Need:
    """What one course of an annotation takes.

    Attributes:
        requests: Questions sent; repeats after transport faults are not among them.
        prompt_tokens: Images included.
        answer_tokens: Of all answers.
        cost_usd: In US dollars, or ``None`` where the model has no price.
        seconds: From the first request to the last answer.
    """

    requests: float
    prompt_tokens: float
    answer_tokens: float
    cost_usd: float | None
    seconds: float


@dataclass(frozen=True)
class Expectation:
    """What is expected of an answer that is still to come.

    Attributes:
        unusable: Share of answers that are unusable, 0 to 1.
        accuracy: Share of usable stage-one answers that are right, 0 to 1.
        answer_tokens: Length of an answer.
        latency_s: Seconds that an answer takes.
        prompt_factor: Prompt tokens as the server counts them, over those that :class:`Pricing` expects.
        sources: Where each of these comes from, a line each.
    """

    unusable: float
    accuracy: float
    answer_tokens: float
    latency_s: float
    prompt_factor: float
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """What is left of an annotation, and what that takes.

    Attributes:
        posts: Training and test posts together.
        finished: Posts that need no further request.
        imported: Answers taken from the import file.
        remembered: Answers taken from the ledger.
        least: If every answer is usable and right.
        expected: By :class:`Expectation`.
        most: If every answer is unusable and as long as allowed, and every byte of a prompt is a token.
        remarks: What the figures rest on, a line each.
        time: What stands in place of seconds with the Batch API.
    """

    model: str
    posts: int
    finished: int
    imported: int
    remembered: int
    least: Need
    expected: Need
    most: Need
    remarks: tuple[str, ...]
    time: str | None = None

    def __str__(self) -> str:
        """A small table, and what it rests on."""
        needs = (self.least, self.expected, self.most)
        rows = [
            ("", "least", "expected", "most"),
            ("requests", *(f"{need.requests:,.0f}" for need in needs)),
            ("prompt tokens", *(f"{need.prompt_tokens:,.0f}" for need in needs)),
            ("answer tokens", *(f"{need.answer_tokens:,.0f}" for need in needs)),
            ("cost in USD", *("no price" if need.cost_usd is None else f"{need.cost_usd:,.2f}" for need in needs)),
        ]
        if self.time is None:
            rows.append(("time", *(duration(need.seconds) for need in needs)))
        lines = [
            f"dry run: {self.posts} posts for {self.model}, {self.finished} of them finished; {self.imported} answers "
            f"imported, {self.remembered} in the ledger",
            *("  " + row[0].ljust(16) + "".join(cell.rjust(16) for cell in row[1:]) for row in rows),
            *(() if self.time is None else (f"  time: {self.time}",)),
            *(f"  - {remark}" for remark in self.remarks),
        ]
        return "\n".join(lines)


async def estimate(
    posts: list[Post], references_for: list[Post], parameters: TeacherParameters, ledger_path: Path
) -> Estimate:
    """Estimate what an annotation would still ask a server for; the offline annotator asks nothing.

    Raises:
        TeacherError: If the import file is missing or empty.
        ImageError: If an image is missing whose post may be in the ledger.
    """
    pricing = pricing_of(parameters)
    rehearsal = _Rehearsal(Ledger(ledger_path), parameters)
    writer: Provider[Request] = rehearsal if parameters.writer == "openai" else OfflineTeacher()
    every = [*posts, *references_for]
    provider = writer
    if parameters.import_path is not None:
        path = Path(parameters.import_path)
        provider = ImportingTeacher(import_for(every, path), path.stem, writer)
    outcomes = []
    for post in progress(every, desc="dry run", unit="post"):
        annotate_one = annotate_training_post if len(outcomes) < len(posts) else annotate_reference
        outcomes.append(await annotate_one(post, provider, parameters.max_retries, parameters.send))
    asked = rehearsal.open
    expectation = _expectation(rehearsal.answered, outcomes, pricing, _tokenised(asked, parameters.tokenizer, pricing))
    right = Expectation(0, 1, expectation.answer_tokens, expectation.latency_s, expectation.prompt_factor, ())
    slowest = expectation.latency_s * max(1.0, parameters.max_tokens / expectation.answer_tokens)
    worst = Expectation(1, 0, parameters.max_tokens, slowest, 1, ())
    return Estimate(
        model=parameters.model if parameters.writer == "openai" else provider.name,
        posts=len(outcomes),
        finished=len(outcomes) - len(asked),
        imported=sum(_imported(answer) for outcome in outcomes for stage in outcome.stages for answer in stage.answers),
        remembered=len(rehearsal.answered),
        least=_need(asked, right, pricing, parameters),
        expected=_need(asked, expectation, pricing, parameters),
        most=_need(asked, worst, pricing, parameters, most=True),
        remarks=(*expectation.sources, *_remarks(asked, pricing, parameters)) if asked else (),
        time=_batches(parameters) if parameters.mode == "batch" and asked else None,
    )


class _Rehearsal:
    """A provider that answers from the ledger alone and notes what that has and what it lacks."""

    name = "ledger"

    def __init__(self, ledger: Ledger, parameters: TeacherParameters) -> None:
        self._ledger = ledger
        self._parameters = parameters
        self.answered: list[tuple[Request, Answer]] = []
        self.open: list[Request] = []

    async def answer(self, question: Request) -> Answer:
        # Keys hash the image files: an empty ledger has none that would be worth the reading.
        answer = self._ledger.get(question_key(question, self._parameters)) if len(self._ledger) else None
        if answer is None:
            self.open.append(question)
            raise RequestFailedError("not asked in a dry run")
        self.answered.append((question, answer))
        return answer

    async def drain(self) -> None:
        """Nothing is on its way."""

    async def close(self) -> None:
        """There is nothing to close."""


def _expectation(
    answered: Sequence[tuple[Request, Answer]],
    outcomes: Sequence[Outcome],
    pricing: Pricing,
    tokenised: tuple[float, str] | None,
) -> Expectation:
    """What the ledger's own answers lead one to expect, each figure where there are enough of them.

    Prompts count as the server counted those before, else as ``tokenised`` says: a factor, and where it comes from.
    """
    lengths = [answer.usage.completion_tokens for _, answer in answered if answer.usage.completion_tokens]
    latencies = [answer.latency_s for _, answer in answered if answer.latency_s]
    counted = [
        (answer.usage.prompt_tokens, pricing.prompt_tokens(request))
        for request, answer in answered
        if answer.usage.prompt_tokens
    ]
    first = [outcome.stages[0] for outcome in outcomes]
    usable = [
        stage.reasoning.prediction == outcome.post.label
        for outcome, stage in zip(outcomes, first, strict=True)
        if stage.reasoning is not None and not _imported(stage.answers[-1])
    ]
    sources = []

    def known(figures: Sequence[object], measured: str, assumed: str) -> bool:
        enough = len(figures) >= ENOUGH_ANSWERS
        sources.append(f"{measured}: from {len(figures):,} answers in the ledger" if enough else f"assumed: {assumed}")
        return enough

    unusable, accuracy, length, latency, factor = UNUSABLE_SHARE, STAGE_ONE_ACCURACY, ANSWER_TOKENS, LATENCY_S, 1.0
    wrong = sum(not _imported(bad.answer) for outcome in outcomes for stage in outcome.stages for bad in stage.unusable)
    if known(
        answered,
        f"{wrong / max(1, len(answered)):.1%} of answers are unusable",
        f"{UNUSABLE_SHARE:.0%} of answers are unusable (79% valid within two answers, Appendix E)",
    ):
        unusable = wrong / len(answered)
    if known(
        usable,
        f"{sum(usable) / max(1, len(usable)):.1%} of stage one is right",
        f"{STAGE_ONE_ACCURACY:.0%} of stage one is right (mean of the teachers in Tables 3 and 4; 49 to 77%)",
    ):
        accuracy = fmean(usable)
    if known(
        lengths,
        f"{fmean(lengths or [0]):.0f} tokens an answer",
        f"{ANSWER_TOKENS:.0f} tokens an answer (the authors' released reasonings; nine in ten have 192 to 319)",
    ):
        length = fmean(lengths)
    if known(latencies, f"{fmean(latencies or [0]):.2f} s an answer", f"{LATENCY_S:g} s an answer (a guess)"):
        latency = fmean(latencies)
    if len(counted) >= ENOUGH_ANSWERS:
        factor = sum(usage for usage, _ in counted) / sum(tokens for _, tokens in counted)
        parts = quantiles((usage / tokens for usage, tokens in counted), n=20)
        sources.append(
            f"prompt tokens: {factor:.3f} x {CHARACTERS_PER_TOKEN:g} characters a token, from {len(counted):,} answers "
            f"in the ledger (nine in ten between {parts[0]:.3f} and {parts[-1]:.3f})"
        )
    elif tokenised is not None:
        factor, source = tokenised
        sources.append(source)
    else:
        sources.append(
            f"assumed: {CHARACTERS_PER_TOKEN:g} characters a prompt token (measured with OpenAI's o200k_base on this "
            "project's prompts; nine in ten between 4.40 and 4.73; teacher.tokenizer counts with the model's own)"
        )
    return Expectation(unusable, accuracy, length, latency, factor, tuple(sources))


def _tokenised(open_requests: Sequence[Request], tokenizer: str | None, pricing: Pricing) -> tuple[float, str] | None:
    """How many times the expected tokens a few of the prompts really have, and a line that says so.

    Raises:
        TeacherError: If the tokenizer's file is missing or unreadable.
    """
    if tokenizer is None or not open_requests:
        return None
    path = Path(tokenizer) / "tokenizer.json" if Path(tokenizer).is_dir() else Path(tokenizer)
    if not path.is_file():
        raise TeacherError(
            f"teacher.tokenizer: there is no {path}; name a tokenizer.json, or the folder of a checkpoint that has one"
        )
    try:
        model = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no class of its own
        raise TeacherError(f"teacher.tokenizer: {path} is no tokenizer.json ({error})") from error
    step = max(1, len(open_requests) // TOKENISED_PROMPTS)
    chosen = open_requests[::step][:TOKENISED_PROMPTS]
    counted = sum(len(model.encode(text, add_special_tokens=False).ids) for r in chosen for text in pricing.texts(r))
    factor = counted / sum(pricing.text_tokens(request) for request in chosen)
    return factor, (
        f"{CHARACTERS_PER_TOKEN / factor:.2f} characters a prompt token, from {len(chosen)} of the prompts tokenised "
        f"with {path}"
    )


def _need(
    open_requests: Sequence[Request],
    expectation: Expectation,
    pricing: Pricing,
    parameters: TeacherParameters,
    *,
    most: bool = False,
) -> Need:
    """What the open requests take, with the retries and second stages that follow from them."""
    count = pricing.most_prompt_tokens if most else pricing.prompt_tokens
    answers = 1 + parameters.max_retries
    carried = 0
    if open_requests:
        # The bound counts a character as a token.
        length = expectation.answer_tokens * (1 if most else CHARACTERS_PER_TOKEN)
        carried = _carried_by_a_retry(open_requests[0], round(length), count)
    requests = prompt_tokens = 0.0

    def add(request: Request, share: float) -> None:
        """One stage that ``share`` of the posts like this one come to; each retry carries all before it."""
        nonlocal requests, prompt_tokens
        base = count(request)
        for retry in range(answers - len(request.history)):
            requests += share
            prompt_tokens += share * (base + retry * carried)
            share *= expectation.unusable

    for request in open_requests:
        add(request, 1.0)
        if request.role == "reasoning" and request.stage == 1:
            answered = 1 - expectation.unusable ** (answers - len(request.history))
            explanation = Request(request.post, request.post.label, request.role, (), request.send)
            add(explanation, 1 - answered * expectation.accuracy)
    prompt_tokens *= expectation.prompt_factor
    answer_tokens = requests * expectation.answer_tokens
    return Need(
        requests=requests,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        cost_usd=pricing.usd(prompt_tokens, answer_tokens),
        seconds=expectation.latency_s * math.ceil(requests / parameters.max_concurrency),
    )


def _carried_by_a_retry(like: Request, answer_characters: int, count: Callable[[Request], int]) -> int:
    """Prompt tokens that an unusable answer and what was wrong with it add to the next request."""
    unusable = Unusable(Answer(text="x" * answer_characters, model=""), tuple(Reasoning().problems))
    first = Request(like.post, like.told_label, like.role, (), like.send)
    again = Request(like.post, like.told_label, like.role, (unusable,), like.send)
    return count(again) - count(first)


def _remarks(open_requests: Sequence[Request], pricing: Pricing, parameters: TeacherParameters) -> list[str]:
    """What a reader of the table must know besides."""
    remarks = [
        "least: every answer usable and right; most: every answer unusable and as long as teacher.max_tokens allows, "
        "every byte of a prompt a token"
    ]
    if any(request.image is not None for request in open_requests) and pricing.images is None:
        remarks.append(f"images are not counted: teacher.prices does not say how {parameters.model} counts them")
    if not pricing.priced:
        remarks.append(f"{parameters.model} has no price in teacher.prices")
    elif parameters.mode == "batch":
        remarks.append("prices are those of the Batch API")
    if parameters.mode == "online":
        remarks.append(f"time: {parameters.max_concurrency} requests in flight")
    return remarks


def _batches(parameters: TeacherParameters) -> str:
    """The time that batches take: retries and stage two are follow-up batches."""
    most = 2 * (1 + parameters.max_retries)
    return f"1 to {most} batches, one after the other, of up to {parameters.batch.completion_window} each"


def _imported(answer: Answer) -> bool:
    return answer.finish_reason == "import"


def duration(seconds: float) -> str:
    """Seconds in words that a person reads at a glance."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
