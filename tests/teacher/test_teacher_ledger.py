"""The ledger: on disk before it counts, torn lines survived, keys by content."""

import asyncio
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from mulcot_rd.teacher.ledger import Ledger, LedgerRow, question_key
from mulcot_rd.teacher.parameters import TeacherParameters
from mulcot_rd.teacher.questions import Answer, Request, Unusable


def row(key, text="an answer"):
    answer = Answer(text=text, model="m")
    return LedgerRow(key=key, subject="p", role="reasoning", stage=1, attempt=1, answer=answer)


def append(path, rows):
    async def run():
        ledger = Ledger(path)
        await asyncio.gather(*(ledger.append(one) for one in rows))
        await ledger.close()

    asyncio.run(run())


def test_answers_are_read_back(tmp_path):
    path = tmp_path / "deep" / "ledger.jsonl"
    append(path, [row(f"k{number}", f'text "{number}"\nline') for number in range(50)])
    ledger = Ledger(path)
    assert list(ledger.answers) == [f"k{number}" for number in range(50)]
    assert ledger.answers["k7"].text == 'text "7"\nline'


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_skipped_and_the_next_row_is_whole(tmp_path, caplog, cut):
    path = tmp_path / "ledger.jsonl"
    append(path, [row("a"), row("b")])
    path.write_bytes(path.read_bytes()[:-cut])
    append(path, [row("c")])
    ledger = Ledger(path)
    assert {"a", "c"} <= ledger.answers.keys()
    # Without its line break alone the row is still whole.
    assert ("b" in ledger.answers) == (cut == 1)
    assert ("skipped" in caplog.text) == (cut > 1)


def _endless_writer(path, counted):
    async def run():
        ledger = Ledger(path)
        with Path(counted).open("a") as file:
            for number in range(100_000):
                await ledger.append(row(f"k{number}"))
                file.write(f"k{number}\n")
                file.flush()

    asyncio.run(run())


def test_what_counted_before_a_kill_is_there_after_it(tmp_path):
    path, counted = tmp_path / "ledger.jsonl", tmp_path / "counted"
    process = multiprocessing.get_context("fork").Process(target=_endless_writer, args=(path, counted))
    process.start()
    deadline = time.monotonic() + 30
    while (not counted.exists() or counted.stat().st_size < 60) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    keys = counted.read_text().splitlines()[:-1]
    ledger = Ledger(path)
    assert len(keys) >= 5
    assert ledger.answers.keys() >= set(keys)


def test_keys_follow_content_and_nothing_else(make_post, tmp_path):
    parameters = TeacherParameters(provider="openai")
    request = Request(make_post(1), None, "reasoning")

    def key(request=request, **changed):
        return question_key(request, parameters.model_copy(update=changed))

    same = [
        key(max_concurrency=3),
        key(max_retries=1),
        key(timeout_s=1.0),
        key(base_url="http://elsewhere/v1"),
        key(Request(make_post(1, "negative", id="other"), None, "reference")),
    ]
    other = [
        key(model="gpt-4o"),
        key(temperature=0.7),
        key(max_tokens=64),
        key(image_size=140),
        key(Request(make_post(2), None, "reasoning")),
        key(Request(make_post(1), make_post(1).label, "reasoning")),
        key(Request(make_post(1), None, "reasoning", (Unusable(Answer(text="no", model="m"), ("bad",)),))),
    ]
    assert set(same) == {key()}
    assert len({key(), *other}) == 1 + len(other)
