"""Headers that come more than once, as `serve` gets them from a socket: no reader takes another."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from simfrcnn.service.web_guard import Access
from support.studies import write_study
from support.web import app_of, served, studies_in, wait_until_done

TOKEN = b"0123456789abcdef-token"
BEARER = ("Authorization", f"Bearer {TOKEN.decode()}")
JSON, HTML = ("Accept", "application/json"), ("Accept", "text/html")
HOST = ("Host", "127.0.0.1")


@pytest.fixture
def server(tmp_path):
    """Address of a server with a token, and the path of a result that it has."""
    write_study(tmp_path / "folder", 0, n_views=1)
    with studies_in(tmp_path / "folder") as studies:
        (study,) = studies.listed()
        studies.submit(study.id)
        wait_until_done(studies, 1)
        with served(app_of(studies, Access(TOKEN))) as url:
            yield urlsplit(url).netloc, f"/results/{study.id}"


def asked(address, path, *headers, method="GET", body=b""):
    """Status and body of a request with just these headers, in their order."""
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


@pytest.mark.parametrize("accepts", [(JSON, HTML), (HTML, JSON), (HTML,), (JSON, HTML, JSON)])
def test_without_a_token_a_result_gives_the_page_and_nothing_else(server, accepts):
    address, path = server
    status, content = asked(address, path, HOST, *accepts)
    assert (status, content) == asked(address, "/", HOST)
    assert b"P0" not in content
    assert asked(address, path, HOST, BEARER, *accepts) == (status, content)


@pytest.mark.parametrize("accepts", [(JSON,), (), (JSON, JSON)])
def test_whoever_accepts_no_page_needs_the_token(server, accepts):
    address, path = server
    assert asked(address, path, HOST, *accepts)[0] == 401
    status, content = asked(address, path, HOST, BEARER, *accepts)
    assert (status, json.loads(content)["patient_id"]) == (200, "P0")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (BEARER, ("authorization", "Bearer wrong")),
        (HOST, ("host", "elsewhere.example")),
        (("Origin", "http://127.0.0.1"), ("origin", "http://elsewhere.example")),
        (("Sec-Fetch-Site", "same-origin"), ("sec-fetch-site", "cross-site")),
        (("Content-Type", "multipart/form-data; boundary=a"), ("content-type", "text/plain")),
    ],
)
def test_a_header_that_decides_is_refused_where_it_comes_twice(server, first, second):
    address, path = server
    others = [one for one in (HOST, BEARER, JSON) if one[0] != first[0]]
    assert asked(address, path, *others, first)[0] == 200
    for pair in ((first, second), (second, first)):
        status, content = asked(address, path, *others, *pair)
        assert status == 400  # of the guard, or of the HTTP library before it
        assert b"P0" not in content


@pytest.mark.parametrize("lengths", [("0", "100000000"), ("100000000", "0")])
def test_two_lengths_of_a_body_are_refused(server, lengths):
    address, _ = server
    headers = [("Content-Length", length) for length in lengths]
    assert asked(address, "/studies", HOST, BEARER, *headers, method="POST")[0] == 400
