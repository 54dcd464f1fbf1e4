"""Parameter counts of the paper's models, from their dimensions alone."""

import pytest

from mulcot_rd.models import parameter_counts

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


def test_an_unknown_model_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"Qwen9.*Qwen/Qwen2.5-VL-3B-Instruct"):
        parameter_counts("Qwen9")
