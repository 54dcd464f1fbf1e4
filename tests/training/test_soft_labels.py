"""Soft labels: they rebuild the assistant's distributions exactly, and refuse whatever they don't belong to."""

import os
import re
import shutil
from array import array
from copy import copy
from dataclasses import replace

import pytest
import torch
from tests.soft_labels import store_soft_labels

from mulcot_rd.fingerprint import fingerprint
from mulcot_rd.kept import Kept
from mulcot_rd.models import train_tokenizer
from mulcot_rd.schema import InputView
from mulcot_rd.training.batches import collate, examples_fingerprint
from mulcot_rd.training.distributions import ExactDistributions
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.soft_label_layouts import CompactLayout
from mulcot_rd.training.soft_labels import (
    SoftLabelError,
    SoftLabelParameters,
    SoftLabels,
)

PARAMETERS = SoftLabelParameters(batch_size=2, rows_per_shard=4)


MADE_FROM = {"model": "this one"}


def _write(role, examples, folder, parameters=PARAMETERS, made_from=MADE_FROM):
    """Soft labels as the pipeline leaves them: written, and put in use."""
    kept = Kept(folder, "soft")
    kept.put(store_soft_labels(role, examples, kept, made_from, parameters).folder)
    return folder / "soft"


@pytest.fixture
def written(role, examples, tmp_path):
    return _write(role, examples, tmp_path)


def test_they_are_the_assistants_own_logits(role, examples, written):
    stored = SoftLabels(written)
    stored.check(role.encoder, examples, temperature=2.0)
    indices = [5, 0, 3]
    with torch.no_grad():
        batch = collate([examples[index] for index in indices], role.encoder)
        head = output_head(role.model)
        live = {task: head.logits(states) for task, states in target_states(role.model, batch).items()}
    taught = stored.distributions(indices, examples, torch.device("cpu"))
    for task, logits in live.items():
        torch.testing.assert_close(
            taught[task].logits(), logits[:, : len(role.encoder.tokenizer)], rtol=1e-5, atol=1e-5
        )


def test_a_restart_keeps_finished_shards_and_gives_the_same(role, examples, written, tmp_path):
    wanted = {path.name: path.read_bytes() for path in written.glob("*.safetensors")}
    result = Kept(tmp_path / "killed", "soft").result(fingerprint(MADE_FROM))
    shutil.copytree(written, result)
    for name in ("shard-00001.safetensors", "manifest.json", "hashes.json"):
        (result / name).unlink()
    (result / ".shard-00001.safetensors.1.partial").write_bytes(b"torn")
    kept = (result / "shard-00000.safetensors").stat().st_mtime_ns
    # The killed start cut shards of four rows; another size now doesn't mix with them.
    other = PARAMETERS.model_copy(update={"rows_per_shard": 5})
    done = _write(role, examples, tmp_path / "killed", other)
    assert {path.name: path.read_bytes() for path in done.glob("*.safetensors")} == wanted
    assert (done / "shard-00000.safetensors").stat().st_mtime_ns == kept
    assert SoftLabels(done).manifest.rows_per_shard == 4


def test_those_of_another_assistant_are_made_beside_and_both_are_found_again(role, examples, written, tmp_path, caplog):
    before = {path.name: path.read_bytes() for path in written.iterdir()}
    with caplog.at_level("INFO"):
        _write(role, examples, tmp_path, made_from={"model": "another"})
    assert "model: this one -> another" in caplog.text
    (earlier,) = (tmp_path / "earlier").iterdir()
    assert {path.name: path.read_bytes() for path in earlier.iterdir()} == before
    _write(role, examples, tmp_path, PARAMETERS.model_copy(update={"rows_per_shard": 1, "batch_size": 1}))
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "head.safetensors"])
def test_a_file_that_is_missing_or_changed_is_refused_and_made_anew(role, examples, written, tmp_path, name):
    wanted = {path.name: path.read_bytes() for path in written.glob("*.safetensors")}
    for damage in (lambda path: path.unlink(), _flip):
        damage(written / name)
        with pytest.raises(SoftLabelError, match=rf"{name} is missing or not the file that was written: run .*again"):
            SoftLabels(written)
        _write(role, examples, tmp_path)
        SoftLabels(written)
        assert {path.name: path.read_bytes() for path in written.glob("*.safetensors")} == wanted


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda result: _flip(result / "shard-00000.safetensors"),
        lambda result: (result / "shard-00000.safetensors").write_bytes(b""),
        lambda result: (result / "shards.json").unlink(),
        lambda result: (result / "shards.json").write_text("{"),
        lambda result: (result / "hashes.json").write_bytes(b"\xff"),
    ],
)
def test_what_was_damaged_before_the_end_is_written_anew(role, examples, written, tmp_path, damage):
    result = Kept(tmp_path / "killed", "soft").result(fingerprint(MADE_FROM))
    shutil.copytree(written, result)
    (result / "manifest.json").unlink()
    damage(result)
    done = _write(role, examples, tmp_path / "killed")
    for path in written.glob("*.safetensors"):
        assert (done / path.name).read_bytes() == path.read_bytes()
    SoftLabels(done).distributions([5], examples, torch.device("cpu"))


def test_a_change_that_keeps_size_and_modification_time_is_noticed(written):
    path = written / "shard-00001.safetensors"
    before = path.stat()
    _flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SoftLabelError, match=r"shard-00001\.safetensors is missing or not the file"):
        SoftLabels(written)


def test_states_that_are_not_finite_are_no_soft_labels(role, examples, tmp_path):
    with torch.no_grad():
        next(p for name, p in role.model.named_parameters() if "norm" in name.lower() and p.dim() == 1)[:] = torch.nan
    with pytest.raises(SoftLabelError, match="not finite, of posts p0, p1"):
        _write(role, examples, tmp_path)


def test_unfinished_labels_are_no_labels(written):
    (written / "manifest.json").unlink()
    with pytest.raises(SoftLabelError, match="data_expansion"):
        SoftLabels(written)


def test_other_rows_targets_and_tokenizers_are_refused(role, examples, written):
    stored = SoftLabels(written)
    with pytest.raises(SoftLabelError, match="6 rows, the training set has 5"):
        stored.check(role.encoder, examples[:-1], temperature=2.0)
    changed = list(examples)
    changed[2] = replace(
        examples[2], targets={**examples[2].targets, "label": examples[2].targets["label"] + array("i", [9])}
    )
    with pytest.raises(SoftLabelError, match="row 2"):
        stored.distributions([2], changed, torch.device("cpu"))
    swapped = [examples[1], examples[0], *examples[2:]]
    with pytest.raises(SoftLabelError, match="row 0"):
        stored.distributions([0], swapped, torch.device("cpu"))
    other = copy(role.encoder)
    other.tokenizer = train_tokenizer(["quite other words"], 300, role.encoder.family.chat)
    with pytest.raises(SoftLabelError, match="share a tokenizer"):
        stored.check(other, examples, temperature=2.0)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"image_size": 140}, "another image_size:"), ({"view": InputView(image=False)}, "another input_view:")],
)
def test_labels_of_other_inputs_are_refused(role, examples, written, changed, named):
    other = copy(role.encoder)
    for name, value in changed.items():
        setattr(other, name, value)
    with pytest.raises(SoftLabelError, match=named):
        SoftLabels(written).check(other, examples, temperature=2.0)


def test_labels_of_other_prompts_or_images_are_refused(role, examples, tmp_path):
    made_from = {**MADE_FROM, "training_rows": examples_fingerprint(examples)}
    stored = SoftLabels(_write(role, examples, tmp_path, made_from=made_from))
    stored.check(role.encoder, examples, temperature=2.0)
    row = examples[2]
    for other in (replace(row, image=examples[1].image), replace(row, prefix=row.prefix + array("i", [9]))):
        with pytest.raises(SoftLabelError, match=r"other training rows .*captions.*run the pipeline data_expansion"):
            stored.check(role.encoder, [*examples[:2], other, *examples[3:]], temperature=2.0)


def _divergence(one, other):
    return (one.exp() * (one - other)).sum(dim=1)


@pytest.mark.parametrize("top_k", [1, 16, 10_000])
def test_compact_ones_keep_the_likeliest_ids_and_the_mass_of_all_others(role, examples, written, tmp_path, top_k):
    parameters = PARAMETERS.model_copy(update={"kind": "compact", "top_k": top_k, "temperature": 1.5})
    compact_folder = _write(role, examples, tmp_path / "compact", parameters)
    indices, device = [5, 0, 3], torch.device("cpu")
    compact = SoftLabels(compact_folder).distributions(indices, examples, device)
    vocabulary = len(role.encoder.tokenizer)
    for task, exact in SoftLabels(written).distributions(indices, examples, device).items():
        log_p = (exact.logits().double() / 1.5).log_softmax(dim=1)
        kept = compact[task]
        assert kept.ids.shape == (len(log_p), min(top_k, vocabulary - 1))
        values = log_p.gather(1, kept.ids)
        others = log_p.scatter(1, kept.ids, -torch.inf)
        assert bool((values.min(dim=1).values >= others.max(dim=1).values - 1e-6).all())
        outcomes = torch.cat([values, others.logsumexp(dim=1, keepdim=True)], dim=1)
        torch.testing.assert_close(kept.log_probabilities.double(), outcomes, rtol=2e-3, atol=2e-3)
        assert float(_divergence(outcomes, kept.log_probabilities.double()).abs().max()) < 1e-5
        torch.testing.assert_close(kept.log_probabilities.logsumexp(dim=1), torch.zeros(len(log_p)), rtol=0, atol=1e-6)


def test_compact_ones_are_for_one_temperature(role, examples, tmp_path):
    parameters = PARAMETERS.model_copy(update={"kind": "compact"})
    compact_folder = _write(role, examples, tmp_path / "compact", parameters)
    stored = SoftLabels(compact_folder)
    stored.check(role.encoder, examples, temperature=2.0)
    with pytest.raises(SoftLabelError, match=r"hold for temperature 2\.0, the student is to learn at 3\.0"):
        stored.check(role.encoder, examples, temperature=3.0)


@pytest.mark.parametrize("vocabulary", [300, 2**16, 2**16 + 1, 151_936])
def test_ids_of_any_vocabulary_are_packed_into_16_bits_and_a_count_a_block(vocabulary):
    generator = torch.Generator().manual_seed(1)
    exact = ExactDistributions(torch.randn(5, 3, generator=generator), torch.randn(vocabulary, 3, generator=generator))
    layout = CompactLayout(16, 2.0, vocabulary)
    packed = layout.pack(exact)
    top = layout.unpack([packed.__getitem__], torch.device("cpu"))
    assert torch.equal(top.ids, exact.logits().topk(16).indices.sort(dim=1).values)
    size = sum(tensor.numel() * tensor.element_size() for tensor in packed.values())
    assert size == 5 * layout.position_bytes(3, 4, vocabulary)


@pytest.mark.parametrize("kind", ["exact", "compact"])
def test_the_size_is_known_before_it_is_written(role, examples, tmp_path, kind, caplog):
    parameters = PARAMETERS.model_copy(update={"kind": kind})
    with caplog.at_level("INFO"):
        folder = _write(role, examples, tmp_path, parameters)
    announced = float(re.search(r"will take ([\d.]+) MiB", caplog.text)[1])
    written = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert announced == pytest.approx(written / 2**20, abs=0.1)
    assert SoftLabels(folder).manifest.bytes == written
