"""Parameter counts of the paper's models, from their dimensions alone."""

import pytest
import torch

from mulcot_rd.models import AdapterParameters, attach_adapter, parameter_counts, parameter_numbers
from mulcot_rd.models.counts import kept_dimensions

TABLE_10 = {
    "Qwen/Qwen3-VL-8B-Instruct": (8_810_770_672, 43_646_976),
    "Qwen/Qwen3-VL-2B-Instruct": (2_144_964_608, 17_432_576),
    "Qwen/Qwen2.5-VL-7B-Instruct": (8_339_756_032, 47_589_376),
    "Qwen/Qwen2.5-VL-3B-Instruct": (3_791_775_744, 37_152_768),
}


@pytest.mark.parametrize(("hub_id", "counts"), TABLE_10.items())
def test_table_10_to_the_digit(hub_id, counts):
    assert parameter_counts(hub_id) == counts
    assert parameter_counts(hub_id.removeprefix("Qwen/").removesuffix("-Instruct")) == counts


# Appendix G names 783M and 248M; the totals of SmolVLM are those of the published weight files (two bytes each).
OTHERS = {
    "google/flan-t5-large": (783_150_080, 783_150_080),
    "google/flan-t5-base": (247_577_856, 247_577_856),
}
WEIGHTS = {"HuggingFaceTB/SmolVLM-500M-Instruct": 507_482_304, "HuggingFaceTB/SmolVLM-256M-Instruct": 256_484_928}


@pytest.mark.parametrize(("hub_id", "counts"), OTHERS.items())
def test_flan_t5_is_trained_whole(hub_id, counts):
    assert parameter_counts(hub_id) == counts


@pytest.mark.parametrize(("hub_id", "own"), WEIGHTS.items())
def test_smolvlm_has_the_published_parameters_and_its_adapter(hub_id, own):
    total, trainable = parameter_counts(hub_id)
    assert total - trainable == own
    assert 0 < trainable < 0.05 * own


# In memory its weights would be 147 GB: they are counted on the meta device.
def test_the_large_teacher_has_the_parameters_of_tables_11_and_12():
    total, trainable = parameter_counts("Qwen2.5-VL-72B")
    assert total - trainable == 73_410_777_344
    assert round((total - trainable) / 1e9, 2) == 73.41


def test_an_unknown_model_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"Qwen9.*Qwen/Qwen2.5-VL-3B-Instruct"):
        parameter_counts("Qwen9")


def test_an_adapter_has_as_many_parameters_as_peft_makes():
    family, dimensions = kept_dimensions("SmolVLM-256M")
    with torch.device("meta"):
        trained = attach_adapter(family.model_class(family.config_class(**dimensions)), AdapterParameters(), seed=0)
    assert parameter_counts("SmolVLM-256M") == parameter_numbers(trained)
