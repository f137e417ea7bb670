"""Files over HTTP, from a server that does all that servers do."""

import gzip
import hashlib
import json
import re
import threading
import time

import numpy as np
import pytest
import requests

from http_server import always, answers, breaks_off, serving
from vssl.data.addresses import Address, check_addresses, read_addresses
from vssl.data.fetch import Fetch, Patience, Watch
from vssl.errors import OptionError

CONTENT = np.random.default_rng(0).bytes(5_000_000)
OTHER = np.random.default_rng(1).bytes(4_000_000)
PATIENCE = Patience(tries=3, wait_s=0.001, silence_s=5.0)


@pytest.fixture
def site():
    with serving() as (site, url):
        site.files["/a.zip"] = CONTENT
        site.url = f"{url}/a.zip"
        yield site


class Seen(Watch):
    def __init__(self):
        self.bytes = self.more = self.breaks = 0

    def came(self, num_bytes):
        self.bytes += num_bytes

    def grew(self, num_bytes):
        self.more += num_bytes

    def broke(self):
        self.breaks += 1


def fetch(site, folder, digest=None, url=None):
    address = Address("source.download.files.x", "download.url", url or site.url, 0.001, digest, "", False)
    seen = Seen()
    Fetch(address, folder / "a.zip", PATIENCE, seen, threading.Event()).run()
    return seen


def hangs_up(request):
    request.close_connection = True
    return True


def failure(site, folder, **options):
    with pytest.raises(OptionError) as error:
        fetch(site, folder, **options)
    line = str(error.value)
    assert "\n" not in line
    return line


def test_three_breaks_are_continued_where_they_were(site, tmp_path):
    site.misbehave("/a.zip", breaks_off(1_000_000), breaks_off(1_500_000), breaks_off(100_000))
    seen = fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [tmp_path / "a.zip"]
    ranges = [int(begin.split("=")[1][:-1]) for _, begin in site.ranges if begin]
    assert site.asked["/a.zip"] == 4
    assert ranges == sorted(ranges)
    assert 900_000 < ranges[0] <= 1_000_000
    assert seen.breaks == 3
    assert seen.bytes == len(CONTENT)
    assert seen.more == len(CONTENT) - 1_000_000  # it was thought to have 0.001 GB


def test_a_server_that_knows_no_ranges_is_asked_for_all_of_it_again(site, tmp_path):
    def whole(request):
        request.send(CONTENT, knows_ranges=False)
        return True

    site.misbehave("/a.zip", breaks_off(2_000_000), whole)
    seen = fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert seen.bytes == len(CONTENT)


@pytest.mark.parametrize("how", ["it says so", "it sends the rest of the other one", "it is shorter"])
def test_another_file_after_a_break_is_not_joined_to_the_first(site, tmp_path, how):
    def rest_of_other(request):
        request.send_response(206)
        request.send_header("Content-Range", f"bytes 2000000-{len(OTHER) - 1}/{len(OTHER)}")
        request.send_header("Content-Length", str(len(OTHER) - 2_000_000))
        request.end_headers()
        request.wfile.write(OTHER[2_000_000:])
        return True

    def swap(request):
        site.files["/a.zip"], site.tags["/a.zip"] = OTHER[: 10 if how == "it is shorter" else None], '"two"'
        if how == "it is shorter":
            return answers(416)(request)
        return rest_of_other(request) if how != "it says so" else False

    site.misbehave("/a.zip", breaks_off(2_000_000), swap)
    fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == site.files["/a.zip"]


def test_a_file_without_any_mark_is_continued_by_its_size(site, tmp_path):
    site.etags = False
    site.misbehave("/a.zip", breaks_off(2_000_000))
    fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert site.ranges[1][1] is not None


@pytest.mark.parametrize("length", [len(CONTENT) + 1000, 10 * len(CONTENT)])
def test_a_server_that_promises_more_than_it_has_is_found_out(site, tmp_path, length):
    def lie(request):
        request.send(CONTENT, knows_ranges=False, length=length)
        return True

    site.misbehave("/a.zip", always(lie))
    line = failure(site, tmp_path)
    assert f": 5,000,000 bytes came of {length:,}, 3 times in a row; run it again later" in line
    assert line.startswith(f"download.url={site.url}: ")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, r"HTTP 403 Forbidden; see on its page whether it asks for a registration, and give another"),
        (401, "HTTP 401 Unauthorized; see on its page whether it asks"),
        (
            404,
            r"HTTP 404 Not Found; give another address \(download.url=URL\), or put the file at .*/a.zip and",
        ),
        (410, "HTTP 410 Gone; give another address"),
    ],
)
def test_what_is_not_there_is_said_at_once(site, tmp_path, status, said):
    site.misbehave("/a.zip", answers(status))
    assert re.search(rf"^download.url={site.url}: {said}", failure(site, tmp_path))
    assert site.asked["/a.zip"] == 1


def test_a_server_in_trouble_is_asked_again(site, tmp_path):
    site.misbehave("/a.zip", answers(500), answers(503, Retry_After="0"), breaks_off(10**6), answers(429))
    fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_that_stays_in_trouble_is_given_up(site, tmp_path):
    site.misbehave("/a.zip", always(answers(500)))
    line = failure(site, tmp_path)
    assert "HTTP 500 Internal Server Error, 3 times in a row; run it again later: it goes on here" in line
    assert site.asked["/a.zip"] == 3


def test_redirections_are_followed_but_not_for_ever(site, tmp_path):
    site.files["/b"] = CONTENT
    site.misbehave("/a.zip", answers(302, Location="/b"))
    fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    (tmp_path / "a.zip").unlink()
    site.misbehave("/a.zip", always(answers(302, Location="/a.zip")))
    assert "cannot be fetched (Exceeded 30 redirects" in failure(site, tmp_path)


def test_a_server_that_hangs_up_is_said_in_words(site, tmp_path):
    site.misbehave("/a.zip", always(hangs_up))
    line = failure(site, tmp_path)
    assert "a.zip: Remote end closed connection without response, 3 times in a row; run it again" in line


def test_a_host_that_is_not_there_is_one_line_without_the_password(tmp_path):
    url = "http://me:s3cret@127.0.0.1:9/a.zip"
    line = failure(None, tmp_path, url=url)
    assert "Connection refused, 3 times in a row" in line
    assert "s3cret" not in line


def test_an_archive_that_the_server_calls_compressed_stays_as_it_is(site, tmp_path):
    content = site.files["/a.zip"] = gzip.compress(CONTENT[:100_000])

    def calls_it_compressed(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("Content-Encoding", "x-gzip")
        request.end_headers()
        request.wfile.write(content)
        return True

    site.misbehave("/a.zip", calls_it_compressed)
    fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == content


def test_a_file_in_chunks_of_unknown_length_is_taken(site, tmp_path):
    def in_chunks(request):
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for start in range(0, len(CONTENT), 1_000_000):
            part = CONTENT[start : start + 1_000_000]
            request.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        request.wfile.write(b"0\r\n\r\n")
        return True

    site.misbehave("/a.zip", in_chunks)
    fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_asked_again(site, tmp_path):
    def falls_silent(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.send_header("ETag", '"one"')
        request.end_headers()
        request.wfile.write(CONTENT[:1_000_000])
        request.wfile.flush()
        time.sleep(2)
        return True

    site.misbehave("/a.zip", falls_silent)
    address = Address("x", "download.url", site.url, 0.001, None, "", False)
    Fetch(address, tmp_path / "a.zip", Patience(3, 0.001, 0.3), Seen(), threading.Event()).run()
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert site.ranges[1][1]


def test_a_certificate_that_is_not_accepted_is_said_at_once(site, tmp_path, monkeypatch):
    """Without asking again: it will not get better by that."""
    asked = []

    def refuse(*_, **__):
        asked.append(1)
        raise requests.exceptions.SSLError("certificate verify failed")

    monkeypatch.setattr(requests.Session, "get", refuse)
    line = failure(site, tmp_path)
    assert ": its certificate is not accepted; set REQUESTS_CA_BUNDLE to a file" in line
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_published_digest_is_held_against_the_file(site, tmp_path, kind):
    right = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"
    fetch(site, tmp_path, digest=right)
    (tmp_path / "a.zip").unlink()
    line = failure(site, tmp_path, digest=f"{kind}:{hashlib.new(kind, OTHER).hexdigest()}")
    found = hashlib.new(kind, CONTENT).hexdigest()
    assert f"another file than the published one ({kind} {found}); delete {tmp_path}/a.zip.part to" in line
    assert line.endswith("or take it as it is with source.download.files.x.digest=null")
    before = site.asked["/a.zip"]
    fetch(site, tmp_path)  # as the line says
    assert site.asked["/a.zip"] == before
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_whose_note_is_lost_is_not_trusted(site, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(OTHER[:1000])
    fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_of_another_process_is_continued(site, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    note = {"bytes": len(CONTENT), "etag": '"one"', "modified": None}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(note))
    fetch(site, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert site.ranges == [("/a.zip", "bytes=1000-")]


FILE = {"url": "http://a.b/c.zip", "gb": 1.0, "digest": None, "into": "", "parts": False}


def node(**changes):
    return {"licence": "free", "stated": "here", "files": {"videos": {**FILE, **changes}, "lists": FILE}}


def test_an_address_is_replaced_by_the_option():
    first, second = read_addresses(node(), "https://mirror/x.zip")
    assert (first.url, first.option, first.name) == ("https://mirror/x.zip", "download.url", "x.zip")
    assert (second.url, second.option) == (FILE["url"], "source.download.files.lists.url")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "ftp://a/b"}, "download.files.videos.url=ftp://a/b: no address of a file; give"),
        ({"url": "http://a/"}, "download.files.videos.url=http://a/: no address of a file; give"),
        ({"gb": 0}, "download.files.videos.gb=0: too small"),
        ({"digest": "md5:12"}, "download.files.videos.digest=md5:12: no digest; give sha256:HEX or md5:HEX"),
        ({"into": "../up"}, "download.files.videos.into=../up: no folder below another one"),
        ({"parts": 1}, "download.files.videos.parts=1: neither true nor false"),
        ({"size": 1}, "download.files.videos.size=1: no such option; valid: digest"),
    ],
)
def test_a_node_that_means_nothing_is_refused(changes, said):
    check_addresses(node())
    with pytest.raises(OptionError, match=f"^{re.escape(said)}"):
        check_addresses(node(**changes))


def test_a_list_of_addresses_shares_out_the_size():
    [one, _] = read_addresses(node(parts=True, into="train"), None)
    parts = list(one.of_parts(["http://a/p_0.tar.gz ", "", "http://a/p_1.tar.gz"]))
    assert [(part.key, part.gb, part.parts) for part in parts] == [
        ("train/p_0.tar.gz", 0.5, False),
        ("train/p_1.tar.gz", 0.5, False),
    ]
    with pytest.raises(OptionError, match=r"is no list of addresses \(it has '<html>'\)"):
        list(one.of_parts(["<html>"]))
