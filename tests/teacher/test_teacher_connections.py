"""What never leaves the machine costs nothing, and a key goes to the server that it belongs to."""

import json
import socket
import threading

import pytest
from fault_server import FaultServer

from mulcot_rd.credentials import Credentials, is_openai, server_key
from mulcot_rd.teacher import TeacherError, TeacherParameters, annotate
from mulcot_rd.teacher.budget import Budget
from mulcot_rd.teacher.ledger import Ledger
from mulcot_rd.teacher.prices import Pricing

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in (*PROXIES, "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def settings(url, **changed):
    fixed = {"provider": "openai", "base_url": url, "model": "fake", "backoff_s": 0.01, "max_request_retries": 1}
    prices = {"fake": {"input_usd": 1.0, "output_usd": 1.0}}
    return TeacherParameters(**{**fixed, "send": "text", "prices": prices, **changed})


def spent_usd(parameters, path):
    return Budget(None, Pricing(parameters), Ledger(path)).spent_usd


@pytest.fixture
def listener():
    """A port that takes connections and does with them what a test says."""
    opened = []

    def listen(react):
        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    react(connection)

        threading.Thread(target=serve, daemon=True).start()
        return listening.getsockname()[1]

    yield listen
    for listening in opened:
        listening.close()


def not_tls(connection):
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def refuse(connection):
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")


def ask_for_a_password(connection):
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")


def swallow(connection):
    connection.recv(4096)


@pytest.mark.parametrize(
    ("url", "proxy", "said"),
    [
        ("http://127.0.0.1:9/v1", None, "no connection to"),
        ("http://no-such-host.invalid/v1", None, "no connection to"),
        ("https://127.0.0.1:{not_tls}/v1", None, "no connection to"),
        ("http://no-such-host.invalid/v1", "http://me:password@127.0.0.1:9", "the proxy"),
        ("https://no-such-host.invalid/v1", "http://127.0.0.1:{refuse}", "the proxy refuses it with 503"),
    ],
    ids=["refused port", "unknown host", "TLS", "dead proxy", "proxy that refuses"],
)
def test_a_request_that_never_left_the_machine_costs_nothing(
    listener, make_post, tmp_path, monkeypatch, url, proxy, said
):
    ports = {"not_tls": listener(not_tls), "refuse": listener(refuse)}
    if proxy is not None:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.format(**ports))
    parameters = settings(url.format(**ports))
    with pytest.raises(TeacherError, match=said) as caught:
        annotate([make_post()], [], parameters, tmp_path / "l.jsonl")
    assert "\n" not in str(caught.value)
    assert "password" not in str(caught.value)
    assert spent_usd(parameters, tmp_path / "l.jsonl") == 0


@pytest.mark.parametrize("url", ["https://127.0.0.1:{}/v1", "http://no-such-host.invalid/v1"], ids=["TLS", "name"])
def test_what_asking_again_cannot_mend_is_asked_once(listener, make_post, tmp_path, url):
    came = []
    parameters = settings(url.format(listener(lambda connection: came.append(not_tls(connection)))), backoff_s=60.0)
    posts = [make_post(number) for number in range(3)]
    with pytest.raises(TeacherError, match=r"no connection to .*: check teacher\.base_url"):
        annotate(posts, [], parameters.model_copy(update={"max_concurrency": 1}), tmp_path / "l.jsonl")
    assert len(came) <= 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_said_to_be_the_proxy(listener, make_post, tmp_path, monkeypatch, scheme):
    monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{listener(ask_for_a_password)}")
    parameters = settings(f"{scheme}://no-such-host.invalid/v1", backoff_s=60.0)
    with pytest.raises(TeacherError, match=f"the proxy asks for a name and password: give them in {scheme}_proxy"):
        annotate([make_post()], [], parameters, tmp_path / "l.jsonl")
    assert spent_usd(parameters, tmp_path / "l.jsonl") == 0


def test_a_host_that_does_not_answer_a_call_costs_nothing(make_post, tmp_path):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        parameters = settings(f"http://127.0.0.1:{full.getsockname()[1]}/v1", timeout_s=0.4)
        with pytest.raises(TeacherError, match=r"no connection to .* \(it takes too long\)"):
            annotate([make_post()], [], parameters, tmp_path / "l.jsonl")
        for each in waiting:
            each.close()
    assert spent_usd(parameters, tmp_path / "l.jsonl") == 0


def test_a_password_in_the_address_is_sent_and_shown_nowhere(server, make_post, tmp_path, caplog):
    url = server.url.replace("//", "//me:pass%2Dword@")
    annotate([make_post(1)], [], settings(url), tmp_path / "l.jsonl")
    assert server.keys == ["Basic bWU6cGFzcy13b3Jk"]
    server.faults = [(401, {}, '{"error": {"message": "pass-word is wrong"}}')]
    with pytest.raises(TeacherError, match=r"\[key\] is wrong") as caught:
        annotate([make_post(2)], [], settings(url), tmp_path / "l.jsonl")
    written = [path.read_text() for path in tmp_path.glob("l.*") if path.is_file()]
    assert not [text for text in (str(caught.value), caplog.text, *written) if "pass-word" in text or "%2D" in text]
    with pytest.raises(TeacherError, match="base_url has a password and the server an API key"):
        annotate([make_post(2)], [], settings(url), tmp_path / "l.jsonl", "sk-a")


def test_a_connection_that_is_lost_after_the_request_may_cost(listener, make_post, tmp_path):
    parameters = settings(f"http://127.0.0.1:{listener(swallow)}/v1")
    with pytest.raises(TeacherError, match=r"connection to .* failed"):
        annotate([make_post()], [], parameters, tmp_path / "l.jsonl")
    assert spent_usd(parameters, tmp_path / "l.jsonl") > 0


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks://127.0.0.1:9"])
def test_a_server_on_this_machine_is_reached_without_the_proxy(server, make_post, tmp_path, monkeypatch, proxy):
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    assert len(annotate([make_post()], [], settings(server.url), tmp_path / "l.jsonl").reasoning) == 1


def test_a_socks_proxy_is_refused_in_one_sentence(make_post, tmp_path, monkeypatch):
    monkeypatch.setenv("all_proxy", "socks://127.0.0.1:9")
    with pytest.raises(TeacherError, match="all_proxy names a socks proxy"):
        annotate([make_post()], [], settings("http://example.invalid/v1"), tmp_path / "l.jsonl")


@pytest.mark.parametrize("key", ["sk-a\nb", "\u201csk-a\u201d", "sk-\u00e9"])
def test_a_key_that_cannot_be_sent_is_said_to_be_the_key(server, make_post, tmp_path, key):
    parameters = settings(server.url)
    with pytest.raises(TeacherError, match=r"API key in conf/local/credentials\.yml can't be sent") as caught:
        annotate([make_post()], [], parameters, tmp_path / "l.jsonl", key)
    assert key not in str(caught.value)
    assert server.requests == []
    assert spent_usd(parameters, tmp_path / "l.jsonl") == 0


def test_blanks_around_a_key_are_not_sent(server, make_post, tmp_path):
    annotate([make_post()], [], settings(server.url), tmp_path / "l.jsonl", " sk-a\n")
    assert server.keys == ["Bearer sk-a"]


@pytest.fixture
def asked_elsewhere(make_post, tmp_path, monkeypatch):
    """Asks a server that is not OpenAI's without a key and with one of its own; what the server got."""

    def ask():
        monkeypatch.setenv("MY_KEY", "sk-mine")
        with FaultServer().running() as server:
            for name, own in (("1", {}), ("2", {"api_key_env": "MY_KEY"})):
                annotate([make_post(1)], [], settings(server.url, max_retries=0, **own), tmp_path / f"{name}.jsonl")
        return server

    return ask


def test_the_key_of_openai_goes_to_no_other_server(asked_elsewhere, make_post, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    server = asked_elsewhere()
    assert set(server.keys) == {None, "Bearer sk-mine"}
    with pytest.raises(TeacherError, match="no such environment variable"):
        annotate([make_post()], [], settings(server.url, api_key_env="NO_KEY"), tmp_path / "3.jsonl")


def test_what_the_sdk_takes_from_the_environment_goes_to_no_other_server(asked_elsewhere, monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-openai\nX-Gateway-Key: secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    server = asked_elsewhere()
    assert set(server.keys) == {None, "Bearer sk-mine"}
    sent = {name.lower() for headers in server.headers for name in headers}
    assert not sent & {"x-gateway-key", "openai-organization", "openai-project"}


def test_each_server_has_the_key_of_its_own_entry(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    kept = Credentials({"api_key": "sk-openai", "servers": {"http://host:8000/v1/": {"api_key": "sk-host"}}})
    assert kept.api_key(None) == kept.api_key("https://api.openai.com/v1") == "sk-openai"
    assert kept.api_key("http://host:8000/v1") == "sk-host"
    assert kept.api_key("http://host:8001/v1") is None
    assert Credentials().api_key("http://host:8000/v1") is None
    assert server_key("https://api.openai.com/v1", None, None) == "sk-environment"
    for address in (
        "http://api.openai.com/v1",
        "https://api.openai.com.evil.org/v1",
        "https://api.openai.com@evil.org",
    ):
        assert not is_openai(address)
        assert server_key(address, None, None) is None


def test_thoughts_that_are_counted_in_the_total_alone_are_paid_for(server, make_post, tmp_path):
    parameters, spent = settings(server.url), {}
    for name, total in (("apart", 1550), ("within", 850)):
        usage = {"prompt_tokens": 600, "completion_tokens": 250, "total_tokens": total}
        server.faults = [
            (200, {}, json.dumps({"choices": [{"message": {"content": server.reply({})}}], "usage": usage}))
        ]
        annotate([make_post()], [], parameters, tmp_path / f"{name}.jsonl")
        spent[name] = spent_usd(parameters, tmp_path / f"{name}.jsonl")
    assert spent["apart"] - spent["within"] == pytest.approx(700 / 1e6)


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 10}, {"completion_tokens": 5}])
def test_an_answer_whose_tokens_are_not_all_counted_costs_what_was_set_aside(server, make_post, tmp_path, usage):
    parameters = settings(server.url)
    annotate([make_post()], [], parameters, tmp_path / "counted.jsonl")
    completion = {"choices": [{"message": {"content": server.reply({})}}], "usage": usage}
    server.faults = [(200, {}, json.dumps(completion))]
    annotate([make_post()], [], parameters, tmp_path / "l.jsonl")
    most_usd = json.loads((tmp_path / "l.spending.jsonl").read_text())["most_usd"]
    assert (
        spent_usd(parameters, tmp_path / "l.jsonl") == most_usd > spent_usd(parameters, tmp_path / "counted.jsonl") > 0
    )
