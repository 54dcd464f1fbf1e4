"""Parameters: defaults of the method, and what is refused rather than silently accepted."""

import pytest
from pydantic import ValidationError

from mulcot_rd.credentials import without_password
from mulcot_rd.messages import one_sentence
from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.transport import Transport, parse_retry_after


def test_defaults():
    parameters = TeacherParameters()
    assert (parameters.provider, parameters.max_retries, parameters.image_size) == ("offline", 3, 280)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"concurrency": 3}, "Extra inputs are not permitted"),
        ({"provider": "import"}, "needs teacher.import_path"),
        ({"import_path": "x.jsonl"}, "read only with teacher.provider=import"),
        ({"budget_usd": 1, "captions": {"provider": "openai"}}, "needs the price of 'openbmb/MiniCPM-o-2_6'"),
        ({"provider": "openai", "model": "own", "budget_usd": 5.0}, "needs the price of 'own'"),
        (
            {"provider": "openai", "budget_usd": 5.0, "prices": {"gpt-4o-mini": {"input_usd": 1, "output_usd": 1}}},
            "how 'gpt-4o-mini' counts an image",
        ),
        ({"base_url": "http://localhost:8000/v1"}, r"base_url is read only with teacher\.provider=openai"),
        ({"mode": "batch"}, r"teacher\.mode=batch is read only with teacher\.provider=openai"),
        ({"captions": {"mode": "batch"}}, r"read only with teacher\.captions\.provider=openai"),
        *[
            ({"provider": "openai", "base_url": url}, "base_url must be a server's address")
            for url in (
                "localhost:8000/v1",
                "http://",
                "http://host:port/v1",
                "http://[::1/v1",
                "ftp://host",
                "http://a..b",
            )
        ],
        ({"captions": {"provider": "openai", "base_url": "host/v1"}}, "base_url must be a server's address"),
        ({"max_retries": -1}, "greater than or equal to 0"),
    ],
)
def test_what_is_refused(settings, sentence):
    with pytest.raises(ValidationError, match=sentence):
        TeacherParameters(**settings)


def test_retry_after_in_every_form():
    assert parse_retry_after({"retry-after": "2.5"}) == 2.5
    assert parse_retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert parse_retry_after({"retry-after": "soon"}) is None
    assert parse_retry_after({}) is None


def test_waits_double_with_jitter_up_to_a_bound():
    transport = Transport(TeacherParameters(backoff_s=1.0))
    for repeat, longest in enumerate([1, 2, 4, 8, 16, 32, 60, 60]):
        assert all(longest / 2 <= transport.wait_s(repeat, None) <= longest for _ in range(20))
    assert 5.0 <= transport.wait_s(0, 5.0) <= 5.1
    with pytest.raises(TeacherError, match="asks to wait 7200 s"):
        transport.wait_s(0, 7200.0)


@pytest.mark.parametrize("address", ["http://me:secret@host:port/v1", "http://me:sec/ret@host/v1"])
def test_no_sentence_shows_the_password_of_an_address(address):
    said = one_sentence(TeacherError(f"refused (given: '{address}'); write to me@host"))
    assert said == f"refused (given: 'http://{address.rpartition('@')[2]}'); write to me@host"


def test_a_password_is_not_shown_whatever_signs_it_has():
    assert without_password("http://user:it's-s3cret@host:8000/v1 refuses") == "http://host:8000/v1 refuses"
