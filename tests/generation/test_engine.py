"""The engine writes what separate ``generate`` calls write, whatever enters and leaves beside a row."""

import pytest
import torch
from transformers import GenerationConfig

from mulcot_rd.generation import engine
from mulcot_rd.generation.engine import sample, write_answers
from mulcot_rd.generation.parameters import GenerationParameters
from mulcot_rd.generation.records import Answer
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.loaded import fresh_model
from mulcot_rd.models.lora import merged_adapter
from mulcot_rd.prompts import TASKS

PARAMETERS = GenerationParameters(batch_size=4, max_new_tokens=24, max_label_tokens=6, max_retries=2)


@pytest.fixture(scope="module")
def role(backbone_parameters, checkpoint):
    made = fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=3)
    made.model.eval()
    return made


@pytest.fixture(scope="module")
def prompts(role, posts):
    return {post.id: {task: role.encoder.prompt(post, task) for task in TASKS} for post in posts}


@pytest.fixture(autouse=True)
def _nothing_is_usable(monkeypatch):
    """Every prompt is asked as often as it may be: a random model's label may be readable, and it may never end."""
    monkeypatch.setattr(Answer, "shortcomings", 1)
    monkeypatch.setattr(Answer, "is_cut", False)


def write(role, posts, prompts, parameters=PARAMETERS, *, attempts=1, seed=1, static=None):
    """All answers by (task, post, attempt), each asked ``attempts`` times."""
    parameters = parameters.model_copy(update={"max_retries": attempts - 1})
    base = base_model(role.model)
    answers = write_answers(base, role.encoder, posts, prompts, parameters, seed=seed, static=static)
    return {answer[:3]: answer for answer in answers}


def texts(given):
    return {key: answer.text for key, answer in given.items()}


@pytest.fixture(scope="module")
def plain(role, posts, prompts):
    """What ``generate`` writes, one prompt at a time."""
    return {
        (task, post.id, 1): generate(role, post, prompts[post.id][task], limit)
        for task, limit in (("label", PARAMETERS.max_label_tokens), ("reasoning", PARAMETERS.max_new_tokens))
        for post in posts
    }


@torch.no_grad()
def generate(role, post, prompt, limit):
    encoder, base = role.encoder, base_model(role.model)
    columns = base.config.get_text_config().vocab_size
    settings = GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        pad_token_id=encoder.tokenizer.pad_token_id,
        eos_token_id=encoder.tokenizer.eos_token_id,
        suppress_tokens=list(range(len(encoder.tokenizer), columns)) or None,
    )
    prefix, suffix = torch.tensor([prompt.prefix]), torch.tensor([prompt.suffix])
    if encoder.family.encoder_decoder:
        given = {"input_ids": prefix, "decoder_input_ids": suffix}
        begin = len(prompt.suffix)
    else:
        ids = torch.cat([prefix, suffix], dim=1)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        given |= encoder.family.forward_kwargs(encoder.image_positions(ids), encoder.images([post.image]))
        begin = ids.shape[1]
    written = base.generate(**given, generation_config=settings)[0, begin:].tolist()
    return encoder.answer(written, "reasoning" if limit == PARAMETERS.max_new_tokens else "label")


@pytest.mark.parametrize(("batch_size", "static"), [(1, False), (3, False), (12, False), (3, True)])
def test_the_texts_are_those_of_plain_generate(role, posts, prompts, plain, batch_size, static):
    parameters = PARAMETERS.model_copy(update={"batch_size": batch_size})
    given = write(role, posts, prompts, parameters, static=static)
    assert texts(given) == plain


def test_each_task_alone_gives_the_same_texts(role, posts, prompts, plain):
    for task in TASKS:
        alone = {post_id: {task: own[task]} for post_id, own in prompts.items()}
        given = write(role, posts, alone)
        assert texts(given) == {k: v for k, v in plain.items() if k[0] == task}


def test_a_post_is_read_once_for_all_tasks_and_retries(role, posts, prompts, monkeypatch):
    images = []
    monkeypatch.setattr(
        role.encoder, "images", lambda paths, own=role.encoder.images: images.extend(paths) or own(paths)
    )
    given = write(role, posts, prompts, attempts=3)
    assert len(given) == len(posts) * 2 * 3
    assert sorted(images) == sorted(post.image for post in posts)


@pytest.mark.parametrize(("batch_size", "at_once"), [(1, 1), (4, 2), (7, 3), (60, 6)])
def test_posts_are_read_in_whole_groups_and_no_more_than_have_places(
    role, posts, prompts, monkeypatch, batch_size, at_once
):
    groups, unsettled = [], set()
    own = engine.prefill

    def reading(base, encoder, group, prompts):
        # What was read and is not answered yet has a place, but for less than a batch.
        assert len(unsettled) < 2 * batch_size
        groups.append(len(group))
        unsettled.update((task, post.id) for post in group for task in TASKS)
        return own(base, encoder, group, prompts)

    monkeypatch.setattr(engine, "prefill", reading)
    parameters = PARAMETERS.model_copy(update={"batch_size": batch_size, "max_retries": 0})
    for answer in write_answers(base_model(role.model), role.encoder, posts, prompts, parameters, seed=1):
        unsettled.discard((answer.task, answer.post_id))
    assert groups == [at_once] * (len(posts) // at_once)
    assert not unsettled


def test_retries_enter_before_posts_that_were_only_read(role, posts, prompts):
    """With one place, nothing else is written until a prompt is done with."""
    given = write(role, posts, prompts, PARAMETERS.model_copy(update={"batch_size": 1}), attempts=3)
    assert [key[:2] for key in given] == [(task, post.id) for post in posts for task in TASKS for _ in range(3)]


def test_retries_differ_and_depend_on_their_own_seed_alone(role, posts, prompts):
    together = write(role, posts, prompts, attempts=3)
    alone = {}
    for post in posts:
        one = PARAMETERS.model_copy(update={"batch_size": 1})
        alone |= write(role, [post], {post.id: prompts[post.id]}, one, attempts=3)
    # Rounding decides a draw that falls between two tokens.
    assert sum(together[key] == alone[key] for key in together) >= 0.9 * len(together)
    assert write(role, posts, prompts, attempts=3) == together
    other = write(role, posts, prompts, attempts=3, seed=2)
    first = {key for key in together if key[2] == 1}
    assert {key: together[key] for key in first} == {key: other[key] for key in first}
    assert any(together[key] != other[key] for key in together if key not in first)
    assert any(together["reasoning", post.id, 2] != together["reasoning", post.id, 3] for post in posts)


def test_samples_are_written_in_any_case_and_are_what_retries_would_be(role, posts, prompts, monkeypatch):
    """So they depend on their own seed alone, too: not on the rows beside them, and not on who writes them."""
    retried = texts(write(role, posts, prompts, attempts=3))
    monkeypatch.setattr(Answer, "shortcomings", 0)
    sampled = write(role, posts, prompts, PARAMETERS.model_copy(update={"samples": 2}))
    assert texts(sampled) == retried
    assert write(role, posts, prompts, attempts=3).keys() == {key for key in retried if key[2] == 1}


def test_columns_beyond_the_tokenizer_are_never_chosen(backbone_parameters, checkpoint, posts):
    role = fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=3)
    role.model.eval()
    with torch.no_grad():
        head = base_model(role.model).lm_head
        getattr(head, "modules_to_save", {"default": head})["default"].weight[len(role.encoder.tokenizer) :] = 100.0
    known = len(role.encoder.tokenizer)
    seen = []
    role.encoder.answer = lambda ids, task: seen.extend(ids) or ""
    prompts = {post.id: {task: role.encoder.prompt(post, task) for task in TASKS} for post in posts[:2]}
    write(role, posts[:2], prompts, attempts=2)
    assert seen
    assert max(seen) < known


@pytest.mark.parametrize("ends", [True, False])
def test_the_end_of_a_turn_is_noticed(backbone_parameters, checkpoint, posts, ends):
    role = fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=3)
    role.model.eval()
    head = base_model(role.model).lm_head
    with torch.no_grad():
        # All logits equal: greedy decoding takes the first id, which ends the turn, or never anything but that.
        getattr(head, "modules_to_save", {"default": head})["default"].weight.zero_()
    prompts = {post.id: {task: role.encoder.prompt(post, task) for task in TASKS} for post in posts[:2]}
    role.encoder.tokenizer.eos_token_id = 0 if ends else 1
    given = write(role, posts[:2], prompts)
    assert {answer.finished for answer in given.values()} == {ends}


def test_the_likeliest_tokens_are_drawn_in_proportion_and_no_others():
    probabilities = torch.tensor([0.1, 0.5, 0.05, 0.35])
    numbers = torch.linspace(0, 0.9999, 1000)
    tokens = sample(probabilities.log().repeat(1000, 1), numbers, temperature=1.0, top_p=0.8)
    assert tokens.bincount(minlength=4).tolist() == pytest.approx([0, 1000 * 0.5 / 0.85, 0, 1000 * 0.35 / 0.85], abs=1)
    cold = sample(probabilities.log().repeat(1000, 1), numbers, temperature=0.01, top_p=1.0)
    assert set(cold.tolist()) == {1}


def test_the_weights_come_back_to_the_last_bit(backbone_parameters, checkpoint):
    role = fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=3)
    for name, parameter in role.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    before = {name: value.clone() for name, value in role.model.state_dict().items()}
    with merged_adapter(role.model):
        changed = [name for name, value in role.model.state_dict().items() if not torch.equal(value, before[name])]
    assert bool(changed) == any("lora_B" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in role.model.state_dict().items())
