"""A whole annotation against a server that fails by its script: nothing is missed, and no request is one too many."""

import hashlib
import json
import logging
from collections import Counter

import pytest
from annotator import result_files
from fault_server import FAULTS, LABELS, FaultServer, Script

from mulcot_rd.schema import Post, Sentiment
from mulcot_rd.teacher import TeacherParameters, annotate, questions

RETRIES = 3


def make_posts(count, image, split="train"):
    """Posts of their own texts each, the label drawn from the text."""
    texts = [f'Day {number} of {split}ing "hard" at Fern Valley \u2600' for number in range(count)]
    return [
        Post(
            id=f"{split}-{number}",
            split=split,
            text=text,
            aspect="Fern Valley",
            image=image,
            label=Sentiment(LABELS[hashlib.sha256(text.encode()).digest()[0] % 3]),
        )
        for number, text in enumerate(texts)
    ]


def settings(server, **changed):
    fixed = {"provider": "openai", "base_url": server.url, "model": "fake", "max_retries": RETRIES}
    return TeacherParameters(
        **{**fixed, "max_concurrency": 32, "backoff_s": 0.01, "timeout_s": 30.0, "image_size": 56, **changed}
    )


def least(script, posts, references=()):
    return sum(script.least_requests(post.text, post.label, RETRIES) for post in posts) + sum(
        script.least_requests(post.text, post.label, RETRIES, reference=True) for post in references
    )


def rows(annotation):
    """The result files as text, and what of the summary does not hang on time."""
    timeless = ("posts", "stage_1", "stage_2", "quarantined", "stage_one_accuracy", "attempts", "references", "tokens")
    return {**result_files(annotation), "summary": json.dumps({key: annotation.summary[key] for key in timeless})}


@pytest.mark.parametrize("seed", range(3))
def test_every_answerable_post_is_annotated_with_the_least_number_of_requests(seed, image, tmp_path):
    posts, references = make_posts(120, image), make_posts(30, image, "test")
    script = Script(
        seed=seed,
        fault_share=0.35,
        flaw_share=0.3,
        hopeless=(posts[3].text, posts[50].text, references[4].text),
        latency_s=(0, 0.01),
    )
    with FaultServer(script, most_requests=3000).running() as server:
        result = annotate(posts, references, settings(server), tmp_path / "ledger.jsonl")
    answerable = [post for post in posts if script.answerable(post.text, post.label, RETRIES)]
    assert [record.id for record in result.reasoning] == [post.id for post in answerable]
    assert [lost.id for lost in result.quarantine] == [post.id for post in posts if post not in answerable]
    assert {posts[3].id, posts[50].id} <= {lost.id for lost in result.quarantine}
    seen = [post for post in references if script.stage(post.text, None, RETRIES)[1] is not None]
    assert [record.id for record in result.references] == [post.id for post in seen]
    assert len(server.log) == least(script, posts, references)
    # Whoever was told when to come back did not come back before.
    for told in (entry for entry in server.log if entry.reaction == "429-after"):
        again = next(e for e in server.log if e.content == told.content and e.arrival == told.arrival + 1)
        assert again.arrived_s - told.arrived_s >= script.retry_after_s
    # Each kind of fault took part, and many flaws, or the test shows less than it says.
    assert set(FAULTS) <= {entry.reaction for entry in server.log}
    complaints = " ".join(problem for lost in result.quarantine for raw in lost.answers for problem in raw.problems)
    assert "missing" in complaints
    assert len(server.log) > 1.5 * len(posts)


def test_a_server_that_falls_silent_costs_a_timeout_and_one_more_request(image, tmp_path):
    posts = make_posts(24, image)
    script = Script(seed=5, fault_share=0.4, faults=("hang", "half-closed"), most_faults=1)
    with FaultServer(script, most_requests=200).running() as server:
        # Long enough for every answer on a machine that is busy with other things.
        result = annotate(posts, [], settings(server, timeout_s=6.0), tmp_path / "ledger.jsonl")
    assert len(result.reasoning) == len(posts)
    assert len(server.log) == least(script, posts)
    assert sum(entry.reaction == "hang" for entry in server.log) >= 3


@pytest.mark.parametrize(
    ("response_format", "turned_away"),
    # A 400 is clear at once; a 500 may be chance twice.
    [("supported", 0), ("ignored", 0), ("refused", 1), ("broken", 3)],
)
def test_what_a_server_does_with_a_schema_is_found_out_once(response_format, turned_away, image, tmp_path):
    posts, more = make_posts(40, image), make_posts(20, image, "dev")
    script = Script(seed=8, flaw_share=0.2, response_format=response_format)
    with FaultServer(script).running() as server:
        annotate(posts, [], settings(server, max_concurrency=1), tmp_path / "ledger.jsonl")
        asked = [body for body, entry in zip(server.requests, server.log, strict=True) if "format" in entry.reaction]
        refused = Counter(body["response_format"]["type"] for body in asked)
        assert all(count <= turned_away for count in refused.values())
        assert bool(refused) == bool(turned_away)
        assert len(server.log) == least(script, posts) + refused.total()
        assert ("response_format" in server.requests[-1]) == (not turned_away)
        # The next annotation knows.
        known = len(server.log)
        annotate([*posts, *more], [], settings(server), tmp_path / "ledger.jsonl")
        assert len(server.log) - known == least(script, more)


def test_rows_do_not_depend_on_time(image, tmp_path):
    posts, references = make_posts(50, image), make_posts(10, image, "test")
    results = []
    for latency_seed, concurrency in [(0, 1), (1, 64), (2, 64)]:
        script = Script(
            seed=4, fault_share=0.2, flaw_share=0.3, latency_s=(0.0, 0.03), latency_seed=latency_seed,
            hopeless=(posts[7].text,),
        )  # fmt: skip
        with FaultServer(script).running() as server:
            ledger = tmp_path / f"ledger-{latency_seed}.jsonl"
            results.append(rows(annotate(posts, references, settings(server, max_concurrency=concurrency), ledger)))
        assert server.most_in_flight <= concurrency
    assert results[0] == results[1] == results[2]


@pytest.fixture
def finished(image, tmp_path):
    """An annotation with faults, its posts, its server and its ledger."""
    posts, references = make_posts(40, image), make_posts(8, image, "test")
    script = Script(seed=6, fault_share=0.2, flaw_share=0.3, hopeless=(posts[2].text,))
    with FaultServer(script).running() as server:
        ledger = tmp_path / "ledger.jsonl"
        result = annotate(posts, references, settings(server), ledger)
        yield posts, references, server, ledger, result


def test_a_finished_annotation_sends_nothing_whatever_changes_around_the_questions(finished):
    posts, references, server, ledger, result = finished
    asked = len(server.log)
    for changed in (
        {},
        {"max_concurrency": 1},
        {"timeout_s": 9.0, "backoff_s": 0.5, "max_request_retries": 0},
        {"structured_output": "off"},
    ):
        again = annotate(posts, references, settings(server, **changed), ledger)
        assert rows(again) == rows(result)
    turned = annotate(posts[::-1], references[::-1], settings(server), ledger)
    assert turned.reasoning == result.reasoning[::-1]
    assert turned.references == result.references[::-1]
    assert annotate(posts[:9], [], settings(server), ledger).reasoning == result.reasoning[:8]
    assert len(server.log) == asked


def test_a_changed_prompt_repeats_exactly_what_it_must(finished, monkeypatch):
    posts, references, server, ledger, _ = finished
    script, asked = server.script, len(server.log)

    # One post's text: that post alone.
    other = posts[5].model_copy(update={"text": posts[5].text + " again"})
    annotate([*posts[:5], other, *posts[6:]], references, settings(server), ledger)
    assert len(server.log) - asked == least(script, [other])
    asked = len(server.log)

    # Another gold label: stage one is remembered, stage two is asked with the new label.
    known = (script.stage(posts[9].text, None, RETRIES)[1], posts[9].label)
    wrong = next(label for label in Sentiment if label not in known)
    relabelled = posts[9].model_copy(update={"label": wrong})
    annotate([*posts[:9], relabelled, *posts[10:]], references, settings(server), ledger)
    assert len(server.log) - asked == script.stage(posts[9].text, wrong, RETRIES)[0]
    asked = len(server.log)

    # Stage two's wording: stage one is remembered for every post.
    stage_one = sum(script.stage(post.text, None, RETRIES)[0] for post in posts)
    original = questions.teacher_prompt

    def reworded(post, told_label, send):
        return original(post, told_label, send) + (" Be brief." if told_label else "")

    monkeypatch.setattr(questions, "teacher_prompt", reworded)
    annotate(posts, references, settings(server), ledger)
    assert len(server.log) - asked == least(script, posts) - stage_one
    asked = len(server.log)

    # Another model: everything.
    annotate(posts, references, settings(server, model="another"), ledger)
    assert {body["model"] for body in server.requests[asked:]} == {"another"}
    answers = sum(entry.answered_s is not None and entry.reaction == "answer" for entry in server.log[asked:])
    assert answers == len({entry.content for entry in server.log[asked:]})


@pytest.mark.parametrize("cut", [2, 40, 300])
def test_a_torn_last_line_costs_one_request(finished, cut, caplog):
    posts, references, server, ledger, result = finished
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-cut])
    lost = whole.count(b"\n") - whole[:-cut].count(b"\n")
    asked = len(server.answered)
    caplog.set_level(logging.WARNING)
    again = annotate(posts, references, settings(server), ledger)
    assert rows(again) == rows(result)
    assert len(server.answered) - asked == lost == 1
    assert "torn" in caplog.text
