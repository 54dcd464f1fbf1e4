"""The bench of full-size models, at tiny scale on the processor: its parts, its processes, its report."""

import json
import sys
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer

import gpu
from devices import PEAKS
from gpu_models import Models
from gpu_parts import PARTS, token_bytes
from mulcot_rd.models import parameter_counts
from mulcot_rd.models.lora import parameter_numbers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def tiny(tmp_path):
    """Makes the tiny models of an architecture."""
    return lambda architecture: Models(architecture, "tiny", torch.device("cpu"), tmp_path)


def measure(part: str, models: Models) -> dict[str, float | None]:
    """The figures of one part, by name."""
    figures = {}
    PARTS[part](models, lambda name, value, unit, aim: figures.update({name: value}))
    return figures


@pytest.mark.parametrize(("architecture", "name"), [(1, "student"), (4, "assistant")])
def test_full_size_models_are_built_where_they_run_in_bfloat16(architecture, name, tmp_path):
    models = Models(architecture, "full", torch.device("meta"), tmp_path)
    role = models.role(name)
    assert parameter_numbers(role.model) == parameter_counts(models.backbone(name).model)
    frozen = [parameter for parameter in role.model.parameters() if not parameter.requires_grad]
    assert {(parameter.device.type, parameter.dtype) for parameter in frozen} == {("meta", torch.bfloat16)}
    assert {tensor.device.type for tensor in role.model.buffers()} == {"meta"}
    assert models.backbone(name).gradient_checkpointing


def test_model_flops_are_four_for_a_frozen_weight_and_six_for_a_trained_one(tiny):
    models = tiny(1)
    figures = measure("assistant_training", models)
    role = models.role("assistant")
    decoder = role.backbone.model.get_decoder()
    rows = models.rows(role, 12)
    tokens = sum(row.length for row in rows)
    targets = sum(len(ids) for row in rows for ids in row.targets.values())
    adapted = [layer for layer in decoder.modules() if isinstance(layer, LoraLayer)]
    assert len(adapted) == 7 * decoder.config.num_hidden_layers
    products = sum(
        4 * layer.in_features * layer.out_features + 6 * 16 * (layer.in_features + layer.out_features)
        for layer in adapted
    )
    head = 4 * decoder.config.hidden_size * len(role.encoder.tokenizer) * targets / tokens
    # Two products forward and five backward; a query's scores over its row.
    width = decoder.config.num_attention_heads * decoder.config.head_dim
    attention = 7 * 2 * decoder.config.num_hidden_layers * width * tokens / len(rows)
    expected = (products + head + attention) / 1e9
    assert figures["training_model_gflops_per_token"] == pytest.approx(expected, rel=0.1)
    for how in ("activations recomputed", "activations kept"):
        assert figures[f"training, {how}"] > 0
        assert figures[f"training_peak_memory, {how}"] > 0
        speed = figures[f"model_tflops_per_s, {how}"] * 1e3 / figures[f"training, {how}"]
        assert speed == pytest.approx(figures["training_model_gflops_per_token"])
        assert figures[f"model_flops_utilisation, {how}"] is None


def test_the_student_is_distilled_from_labels_of_the_assistants_size(tiny):
    figures = measure("student_training", tiny(4))
    assert figures["training, activations kept"] > 0


def test_evaluation_stands_beside_generate(tiny):
    figures = measure("student_evaluation", tiny(1))
    ours, plain = figures["evaluation"], figures["evaluation_by_generate, adapter merged"]
    assert figures["evaluation, times as fast as generate, adapter merged"] == pytest.approx(ours / plain)


def test_a_token_reads_the_decoder_and_the_head_once(tiny):
    base = tiny(4).role("student").backbone.model
    decoder = base.get_decoder()
    layers = sum(parameter.nbytes for parameter in (*decoder.layers.parameters(), *decoder.norm.parameters()))
    assert token_bytes(base) == layers + base.lm_head.weight.nbytes


def test_one_command_writes_json_and_a_table_that_name_random_weights(tmp_path, monkeypatch, capsys):
    output = tmp_path / "new" / "gpu.json"
    arguments = ["--scale", "tiny", "--device", "cpu", "--architectures", "4", "--parts", "student_latency"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments, "--output", str(output)])
    gpu.main()
    report, table = json.loads(output.read_text()), capsys.readouterr().out
    assert report["weights"] == "random"
    assert report["torch"] == torch.__version__
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["latency"]["value"] > 0
    assert rows["latency"]["unit"] == "ms for 8 tokens"
    assert rows["latency over its floor"]["value"] is None
    assert "RANDOM WEIGHTS" in table
    assert "| 2, 4 | tiny, in place of Qwen2.5-VL-3B | student_latency | latency |" in table


def test_the_papers_figures_stand_beside_full_size_ones(monkeypatch):
    row = {"name": "latency", "value": 900.0, "unit": "ms for 256 tokens", "aim": ""}
    monkeypatch.setattr(gpu, "run_part", lambda command, limit: gpu.Ended([row], "stopped after 9 s"))
    latency, fault = gpu.measured("student_latency", 1, "full", torch.device("cpu"), 9)
    assert (latency["model"], latency["table_11"], latency["table_12"]) == ("Qwen3-VL-2B", 8302.95, 8710.76)
    assert (fault["name"], fault["unit"], fault["table_11"]) == ("ended early", "stopped after 9 s", None)


def test_a_part_that_fails_keeps_what_it_had_measured():
    script = "print('{\"name\": \"a\"}', flush=True); raise MemoryError('CUDA out of memory')"
    ended = gpu.run_part([sys.executable, "-c", script], 60)
    assert ended.rows == [{"name": "a"}]
    assert ended.fault == "ended with 1: MemoryError: CUDA out of memory"


def test_a_part_that_takes_too_long_is_stopped():
    script = 'import time; print(\'{"name": "a"}\', flush=True); time.sleep(60)'
    assert gpu.run_part([sys.executable, "-c", script], 1) == gpu.Ended([{"name": "a"}], "stopped after 1 s")
    assert gpu.run_part([sys.executable, "-c", script], 0) == gpu.Ended([], "not begun: the time was used up")


def test_without_a_gpu_full_size_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="PyTorch sees no GPU"):
        gpu.main()


def test_peaks_are_of_whole_names():
    assert PEAKS["NVIDIA H200"].bandwidth == 4.8e12
    assert "NVIDIA H100 PCIe" not in PEAKS
