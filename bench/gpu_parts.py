"""The parts of ``bench/gpu.py``, each in a process of its own: ``gpu_parts.py PART ARCHITECTURE SCALE DEVICE``.

A row is printed as a line of JSON as soon as it is measured, so that what came before a failure is kept.

Model FLOPs are those of the matrix products, convolutions and attentions of one forward and one backward pass, counted
by PyTorch's own counter (a multiplication and an addition are two) on the middle micro-batch of a window, and taken in
proportion to tokens. Frozen weights cost 2 N a token forward and 2 N backward, for the gradient of their inputs alone;
trained ones (LoRA) 6 N. Parts in front of the first trained weight have no backward pass, a frozen vision tower is
outside of the steps. Attention counts whole squares, of which the masks leave less. Activations that are computed a
second time for the backward pass are not counted, padding neither.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from as_written import written_answers
from devices import PEAKS
from generation import Evaluation
from gpu_models import Models
from mulcot_rd.generation.engine import write_answers
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.metrics.efficiency import GIB, count_flops, device_name, peak_memory
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.inputs import Prompt
from mulcot_rd.models.loaded import LoadedModel
from mulcot_rd.models.lora import TrainedModel
from mulcot_rd.prompts import TASKS, Task
from mulcot_rd.training.assistant import AssistantObjective
from mulcot_rd.training.batches import Batch, Example, collate, micro_batches, windows
from mulcot_rd.training.distributions import Distributions
from mulcot_rd.training.images import ImageStore
from mulcot_rd.training.loop import Objective, Trainer
from mulcot_rd.training.objective import StudentLossWeights, TaskWeights
from mulcot_rd.training.parameters import OptimisationParameters
from mulcot_rd.training.soft_label_layouts import ExactLayout, Read
from mulcot_rd.training.student import StudentObjective
from settings import RoleName

# Gigabytes (2^30 bytes) that training at the paper's batch of 2 is to stay under.
MEMORY_AIMS: dict[RoleName, int] = {"student": 24, "assistant": 48}
UTILISATION_AIM, FLOOR_AIM, GENERATE_AIM = 0.45, 2.0, 5.0
SEED = 1

# Tells of one figure: name, value, unit, aim.
Say = Callable[[str, float | None, str, str], None]


def train(models: Models, name: RoleName, say: Say) -> None:
    """Training steps of a role by the project's own loop, as configured and with activations kept.

    The student's soft labels are random states and a random head of the assistant's size, brought to the device batch
    by batch as stored ones are.
    """
    role, device = models.role(name), models.device
    optimisation = _optimisation(models, name)
    window = optimisation.batch_size * optimisation.gradient_accumulation_steps
    examples = models.rows(role, window * (models.amount.measured_steps + 2))
    images = ImageStore(models.scratch / "images", role.encoder, role.model, "random")
    images.prepare([example.image for example in examples])
    taught = _taught(models, role, examples) if name == "student" else None
    loss = _loss(models, role)

    def prepare(indices: Sequence[int]) -> Batch:
        batch = collate([examples[index] for index in indices], role.encoder, images)
        return batch if taught is None else replace(batch, assistant=taught(indices))

    base = base_model(role.model)
    base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    steps = partial(_steps, role, examples, prepare, loss, optimisation, models)
    recomputed = _speed(steps, name, say, "activations recomputed", device)
    base.activation_checkpointing_disable()
    flops = _flops_per_token(examples, prepare, loss, optimisation)
    role.model.zero_grad(set_to_none=True)
    say("training_model_gflops_per_token", flops / 1e9, "GFLOP", "")
    _utilisation(say, recomputed * flops, "activations recomputed", device)
    kept = _speed(steps, name, say, "activations kept", device)
    _utilisation(say, kept * flops, "activations kept", device)


def latency(models: Models, say: Say) -> None:
    """Time of one reasoning of the student at batch 1: plain ``generate``, the engine, and reading the weights."""
    role, tokens, count = models.role("student"), models.amount.latency_tokens, models.amount.latency_answers
    role.model.eval()
    posts = models.posts[: count + 1]
    prompts = _prompts(models, role, len(posts))
    _write_on(role)

    def generate(model: TrainedModel) -> float:
        def write(number: int) -> None:
            prompt = prompts[posts[number].id]["reasoning"]
            written_answers(model, role.encoder, [prompt], [posts[number].image], 1, tokens)

        write(0)
        return 1000 * statistics.median(_seconds(partial(write, n), models.device) for n in range(1, count + 1))

    unit = f"ms for {tokens} tokens"
    apart = generate(role.model)
    say("latency_of_generate, adapter apart", apart, unit, "")
    merged = role.model.merge_and_unload()
    plain = generate(merged)
    say("latency_of_generate, adapter merged", plain, unit, "")
    with peak_memory(models.device) as memory:
        own = _engine_latency(models, role, merged, prompts)
    say("latency", own, unit, "")
    say("latency, times as fast as generate, adapter apart", apart / own, "ratio", f"at least {GENERATE_AIM:g}")
    say("latency, times as fast as generate, adapter merged", plain / own, "ratio", f"at least {GENERATE_AIM:g}")
    say("inference_peak_memory", memory["bytes"] / GIB, f"GiB, {memory['of']}", "")
    peak = PEAKS.get(device_name(models.device))
    floor = None if peak is None else 1000 * tokens * token_bytes(merged) / peak.bandwidth
    say("latency_floor, weight bytes over bandwidth", floor, unit, "")
    say("latency over its floor", None if floor is None else own / floor, "ratio", f"at most {FLOOR_AIM:g}")


def evaluate(models: Models, say: Say) -> None:
    """Label and reasoning of posts at the configured batch, by the engine and by ``generate``."""
    role = models.role("student")
    role.model.eval()
    batch_size = models.parameters["generation"]["batch_size"]
    posts, limits = models.posts[: models.amount.evaluation_posts], models.amount.evaluation_limits
    prompts = _prompts(models, role, len(posts))
    _write_on(role)
    parameters = _generation(batch_size, limits)
    merged = role.model.merge_and_unload()
    evaluation = Evaluation(merged, role.encoder, posts, prompts, limits, parameters)
    unit = f"posts/s, {limits['label']} + {limits['reasoning']} tokens, batch {batch_size}"
    with peak_memory(models.device) as memory:
        # Reads images and warms kernels up; graphs are captured in every run of the engine.
        replace(evaluation, posts=posts[:1]).ours()
        ours = len(posts) / _seconds(evaluation.ours, models.device)
    say("evaluation", ours, unit, "")
    say("evaluation_peak_memory", memory["bytes"] / GIB, f"GiB, {memory['of']}", "")
    replace(evaluation, posts=posts[:1], limits={"label": 1, "reasoning": 1}).as_written(batch_size)
    plain = len(posts) / _seconds(partial(evaluation.as_written, batch_size), models.device)
    say("evaluation_by_generate, adapter merged", plain, unit, "")
    say("evaluation, times as fast as generate, adapter merged", ours / plain, "ratio", "")


PARTS: dict[str, Callable[[Models, Say], None]] = {
    "student_training": lambda models, say: train(models, "student", say),
    "assistant_training": lambda models, say: train(models, "assistant", say),
    "student_latency": latency,
    "student_evaluation": evaluate,
}


def token_bytes(model: torch.nn.Module) -> int:
    """Bytes of weights that writing a token reads: decoder and head, of the embeddings nothing but the head's own."""
    decoder = model.get_decoder()
    embedding = decoder.get_input_embeddings().weight
    read = {id(parameter): parameter for parameter in decoder.parameters() if parameter is not embedding}
    head = model.lm_head.weight
    return sum(parameter.nbytes for parameter in {**read, id(head): head}.values())


def _optimisation(models: Models, name: RoleName) -> OptimisationParameters:
    """The configured optimisation, for one epoch that is checkpointed at its end alone."""
    parameters = OptimisationParameters(**models.parameters[f"{name}_training"]["optimisation"])
    steps = models.amount.gradient_accumulation_steps or parameters.gradient_accumulation_steps
    return parameters.model_copy(update={"epochs": 1, "gradient_accumulation_steps": steps, "checkpoint_minutes": 1e6})


def _loss(models: Models, role: LoadedModel) -> Objective:
    """The role's objective with the paper's weights."""
    vocabulary = len(role.encoder.tokenizer)
    weights = models.parameters[f"{role.name}_training"]["weights"]
    if role.name == "assistant":
        return AssistantObjective(role.model, TaskWeights(**weights), vocabulary)
    return StudentObjective(role.model, StudentLossWeights(**{**weights, "vocabulary_size": vocabulary}))


def _taught(
    models: Models, role: LoadedModel, examples: Sequence[Example]
) -> Callable[[Sequence[int]], dict[Task, Distributions]]:
    """What gives random soft labels of rows, of the assistant's hidden size and vocabulary."""
    hidden = models.assistant_width
    dtype = base_model(role.model).dtype
    head = torch.randn(len(role.encoder.tokenizer), hidden, device=models.device, dtype=dtype) / hidden**0.5
    layout = ExactLayout(head, None)
    longest = max(len(ids) for example in examples for ids in example.targets.values())
    states = torch.randn(longest, hidden, dtype=dtype)

    def states_of(length: int) -> Read:
        return lambda _: states[:length]

    def taught(indices: Sequence[int]) -> dict[Task, Distributions]:
        return {
            task: layout.unpack([states_of(len(examples[n].targets[task])) for n in indices], models.device)
            for task in TASKS
        }

    return taught


def _steps(
    role: LoadedModel,
    examples: Sequence[Example],
    prepare: Callable[[Sequence[int]], Batch],
    loss: Objective,
    optimisation: OptimisationParameters,
    models: Models,
) -> float:
    """Tokens a second over the measured steps: from the beginning of the second to that of the last one."""
    timed = _Timed(loss, optimisation.gradient_accumulation_steps, models.device)
    with tempfile.TemporaryDirectory(dir=models.scratch) as folder:
        Trainer(
            name=role.name,
            model=role.model,
            objective=timed,
            prepare=prepare,
            examples=examples,
            validate=lambda step: {"score": 0.0},
            parameters=optimisation,
            seed=SEED,
            folder=Path(folder),
            fingerprint="bench",
        ).run()
    lengths = [example.length for example in examples]
    order = windows(lengths, optimisation.batch_size * optimisation.gradient_accumulation_steps, SEED, epoch=0)
    tokens = sum(lengths[index] for window in order[1:-1] for index in window)
    return tokens / (timed.begun[-1] - timed.begun[1])


class _Timed:
    """An objective that notes when each step begins."""

    def __init__(self, loss: Objective, accumulation: int, device: torch.device) -> None:
        self.terms = loss.terms
        self.begun: list[float] = []
        self._loss, self._accumulation, self._device, self._calls = loss, accumulation, device, 0

    def __call__(self, batch: Batch, counts: Mapping[Task, int]) -> tuple[Tensor, Mapping[str, Tensor]]:
        if self._calls % self._accumulation == 0:
            _wait_for(self._device)
            self.begun.append(time.perf_counter())
        self._calls += 1
        return self._loss(batch, counts)


def _speed(steps: Callable[[], float], name: RoleName, say: Say, how: str, device: torch.device) -> float:
    with peak_memory(device) as memory:
        speed = steps()
    say(f"training, {how}", speed, "tokens/s", "")
    say(f"training_peak_memory, {how}", memory["bytes"] / GIB, f"GiB, {memory['of']}", f"under {MEMORY_AIMS[name]}")
    return speed


def _flops_per_token(
    examples: Sequence[Example],
    prepare: Callable[[Sequence[int]], Batch],
    loss: Objective,
    optimisation: OptimisationParameters,
) -> float:
    """Model FLOPs of a token, those of the middle micro-batch of the first window; see the module's text."""
    lengths = [example.length for example in examples]
    window = windows(lengths, optimisation.batch_size * optimisation.gradient_accumulation_steps, SEED, epoch=0)[0]
    cut = list(micro_batches(window, optimisation.batch_size, lengths))
    batch = prepare(cut[len(cut) // 2])
    counts = {task: len(ids) for task, ids in batch.targets.items()}

    def there_and_back() -> None:
        total, _ = loss(batch, counts)
        total.backward()

    return count_flops(there_and_back) / batch.input_ids.numel()


def _utilisation(say: Say, flops: float, how: str, device: torch.device) -> None:
    say(f"model_tflops_per_s, {how}", flops / 1e12, "TFLOP/s", "")
    peak = PEAKS.get(device_name(device))
    share = None if peak is None else flops / peak.flops
    say(f"model_flops_utilisation, {how}", share, "share of the peak", f"at least {UTILISATION_AIM:g}")


def _prompts(models: Models, role: LoadedModel, count: int) -> dict[str, dict[Task, Prompt]]:
    """Random prompts of the first posts, by post and task."""
    return {
        row.post_id: {task: Prompt(list(row.prefix), list(row.suffixes[task])) for task in TASKS}
        for row in models.rows(role, count)
    }


def _write_on(role: LoadedModel) -> None:
    """Let no token end an answer: with random weights it would come by chance, and lengths are to be equal."""
    role.encoder.tokenizer.eos_token = None


def _generation(batch_size: int, limits: Mapping[Task, int]) -> GenerationParameters:
    """First answers alone."""
    return GenerationParameters(
        batch_size=batch_size,
        max_label_tokens=limits["label"],
        max_new_tokens=limits["reasoning"],
        max_retries=0,
    )


def _engine_latency(
    models: Models, role: LoadedModel, model: TrainedModel, prompts: Mapping[str, dict[Task, Prompt]]
) -> float:
    """Median milliseconds from one answer to the next; the first one, for which graphs are captured, is left out."""
    ended: list[float] = []
    parameters = _generation(1, {"label": 4, "reasoning": models.amount.latency_tokens})
    posts = models.posts[: len(prompts)]
    reasonings = {post: {"reasoning": own["reasoning"]} for post, own in prompts.items()}
    for _ in write_answers(model, role.encoder, posts, reasonings, parameters, seed=SEED):
        _wait_for(models.device)
        ended.append(time.perf_counter())
    return 1000 * statistics.median(after - before for before, after in pairwise(ended))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait_for(device)
    started = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - started


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(part: str, architecture: str, scale: str, device: str) -> None:
    """Measure one part and print its rows."""

    def say(name: str, value: float | None, unit: str, aim: str) -> None:
        print(json.dumps({"name": name, "value": value, "unit": unit, "aim": aim}), flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        PARTS[part](Models(int(architecture), scale, torch.device(device), Path(scratch)), say)


if __name__ == "__main__":
    main(*sys.argv[1:])
