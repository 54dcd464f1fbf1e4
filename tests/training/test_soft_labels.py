"""Soft labels: they rebuild the assistant's distributions exactly, and refuse whatever they don't belong to."""

from dataclasses import replace

import pytest
import torch

from mulcot_rd.models import train_tokenizer
from mulcot_rd.training.batches import collate
from mulcot_rd.training.forward import head_logits, target_states
from mulcot_rd.training.soft_labels import (
    SoftLabelError,
    SoftLabelParameters,
    SoftLabels,
    expected_bytes,
    write_soft_labels,
)

PARAMETERS = SoftLabelParameters(batch_size=2, rows_per_shard=4)


@pytest.fixture
def written(role, examples, tmp_path):
    write_soft_labels(role.model, role.encoder, examples, tmp_path / "soft", "made from", PARAMETERS)
    return tmp_path / "soft"


def test_they_are_the_assistants_own_logits(role, examples, written):
    stored = SoftLabels(written)
    stored.check(role.encoder.tokenizer, examples)
    indices = [5, 0, 3]
    with torch.no_grad():
        batch = collate([examples[index] for index in indices], role.encoder)
        live = head_logits(role.model, target_states(role.model, batch))
    taught = stored.logits(indices, examples, torch.device("cpu"))
    for task, logits in live.items():
        torch.testing.assert_close(taught[task], logits[:, : len(role.encoder.tokenizer)], rtol=1e-5, atol=1e-5)


def test_a_restart_keeps_finished_shards_and_gives_the_same(role, examples, written, tmp_path):
    wanted = {path.name: path.read_bytes() for path in written.iterdir()}
    first = written / "shard-00000.safetensors"
    kept = first.stat().st_mtime_ns
    (written / "shard-00001.safetensors").unlink()
    (written / "manifest.json").rename(written / "gone")
    (written / "gone").unlink()
    (written / "in_progress.json").write_text('{"fingerprint": "made from"}')
    write_soft_labels(role.model, role.encoder, examples, written, "made from", PARAMETERS)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == wanted
    assert first.stat().st_mtime_ns == kept


def test_shards_of_another_assistant_are_thrown_away(role, examples, written):
    before = (written / "shard-00000.safetensors").stat().st_mtime_ns
    write_soft_labels(role.model, role.encoder, examples, written, "another", PARAMETERS)
    assert (written / "shard-00000.safetensors").stat().st_mtime_ns != before


def test_unfinished_labels_are_no_labels(written):
    (written / "manifest.json").unlink()
    with pytest.raises(SoftLabelError, match="data_expansion"):
        SoftLabels(written)


def test_other_rows_targets_and_tokenizers_are_refused(role, examples, written):
    stored = SoftLabels(written)
    with pytest.raises(SoftLabelError, match="6 rows, the training set has 5"):
        stored.check(role.encoder.tokenizer, examples[:-1])
    changed = list(examples)
    changed[2] = replace(examples[2], targets={**examples[2].targets, "label": [*examples[2].targets["label"], 9]})
    with pytest.raises(SoftLabelError, match="row 2"):
        stored.logits([2], changed, torch.device("cpu"))
    swapped = [examples[1], examples[0], *examples[2:]]
    with pytest.raises(SoftLabelError, match="row 0"):
        stored.logits([0], swapped, torch.device("cpu"))
    with pytest.raises(SoftLabelError, match="share a tokenizer"):
        stored.check(train_tokenizer(["quite other words"], 300, role.encoder.family.chat), examples)


def test_the_size_is_known_before_it_is_written(role, examples, written):
    hidden = role.model.get_base_model().config.get_text_config().hidden_size
    shards = sum(path.stat().st_size for path in written.glob("shard-*.safetensors"))
    assert expected_bytes(examples, hidden, 4) <= shards <= expected_bytes(examples, hidden, 4) + 4096
