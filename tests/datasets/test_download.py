"""Downloads against a server on this machine that does whatever a test tells it to."""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import ipaddress
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pooch
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rich.progress import Progress

from fedtutor.datasets.fetch import transfer
from fedtutor.datasets.fetch.download import DownloadError, RemoteFile, download
from fedtutor.errors import DataError

SIZE = 300_000
BODY, OTHER = random.Random(0).randbytes(SIZE), random.Random(1).randbytes(SIZE)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = {"wait": 0.01, "timeout": (1.0, 0.5)}


class Site(ThreadingHTTPServer):
    """Answers each request by the next of ``script``, and serves ``body`` when that is empty."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, scheme="http"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme, self.body, self.etag, self.script, self.requests = scheme, BODY, '"1"', [], []
        self.closing = threading.Event()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def file(self, hash=MD5, num_bytes=SIZE):
        return RemoteFile("set.npz", f"{self.url}/set.npz?download=1", hash, num_bytes)

    @property
    def ranges(self):
        return [headers.get("Range") for _, headers in self.requests]

    def handle_error(self, request, client_address):
        pass  # clients that go away in the middle are what is tested here


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        (self.server.script.pop(0) if self.server.script else serve)(self)

    def begin(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def serve(handler, *, pause=0.0):
    body, etag = handler.server.body, handler.server.etag
    headers = {"ETag": etag} if etag else {}
    start, asked = 0, handler.headers.get("Range")
    if asked and handler.headers.get("If-Range", etag) == etag:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            handler.begin(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    headers["Content-Length"] = str(len(body) - start)
    handler.begin(206 if start else 200, headers)
    for chunk in range(start, len(body), 10_000):
        handler.wfile.write(body[chunk : chunk + 10_000])
        time.sleep(pause)


def slow(handler):
    serve(handler, pause=0.02)


def cut(n, *, total=SIZE, **headers):
    """Promise ``total`` bytes, send ``n`` and hang up."""

    def answer(handler):
        etag = {"ETag": handler.server.etag} if handler.server.etag and not headers else headers
        handler.begin(200, {"Content-Length": str(total)} | etag)
        handler.wfile.write(handler.server.body[:n])

    return answer


def stall(n):
    """Promise all, send ``n`` bytes and say nothing more."""

    def answer(handler):
        cut(n)(handler)
        handler.wfile.flush()
        handler.server.closing.wait(20)

    return answer


def whole(handler):
    """As from a server that knows no ranges and tells no length."""
    handler.begin(200, {})
    handler.wfile.write(handler.server.body)


def status(code, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.begin(code, headers | {"Content-Length": "0"})


def redirect(url):
    return status(302, Location=url)


def hang_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running(site):
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.fixture(autouse=True)
def no_mirror_and_no_proxy(monkeypatch):
    monkeypatch.delenv("FEDTUTOR_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def site():
    with running(Site()) as site:
        yield site


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "set"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A throw-away certificate of 127.0.0.1, with its key, as one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fedtutor test")])
    now, address = datetime.datetime.now(datetime.UTC), ipaddress.ip_address("127.0.0.1")
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "site.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls_site(certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    site = Site("https")
    site.socket = context.wrap_socket(site.socket, server_side=True)
    with running(site):
        yield site


@pytest.fixture
def sleeps(monkeypatch):
    """The pauses between attempts, which then take no time."""
    pauses = []
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


@contextlib.contextmanager
def mounted(folder, options):
    """A small or a read-only disk."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a disk, and not in every container")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def files(folder):
    """What lies in the folder; a lock file stays, as deleting it would free it for two."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def refused(site, folder, file=None, **options):
    """The message of a download that must fail, leaving nothing under the final name."""
    with pytest.raises(DownloadError) as error:
        download(file or site.file(), folder, **(QUICK | options))
    assert not (folder / "set.npz").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


ONE = """
import sys
from fedtutor.datasets.fetch.download import RemoteFile, download
url, hash, folder = sys.argv[1:]
download(RemoteFile("set.npz", url, hash, None), folder)
"""
EIGHT = """
import multiprocessing, sys
from fedtutor.datasets.fetch.download import RemoteFile, download
url, hash, folder = sys.argv[1:]
def fetch(_):
    barrier.wait()
    return download(RemoteFile("set.npz", url, hash, None), folder)
context = multiprocessing.get_context("fork")
barrier = context.Barrier(8)
with context.Pool(8) as pool:
    print(*pool.map(fetch, range(8), chunksize=1))
"""


def run(code, site, folder):
    file = site.file()
    return subprocess.Popen(
        [sys.executable, "-c", code, file.url, file.hash, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# What arrives, and when it gets its name


@pytest.mark.parametrize("num_bytes", [len(BODY), None])
@pytest.mark.parametrize("hash", [MD5, f"sha256:{SHA256}", None])
def test_a_file_arrives_whole(site, folder, hash, num_bytes):
    path = download(site.file(hash, num_bytes), folder)
    assert path == folder / "set.npz"
    assert path.read_bytes() == BODY
    assert files(folder) == (["set.npz"] if hash else ["SHA256SUMS", "set.npz"])
    assert site.requests[0][1]["Accept-Encoding"] == "identity"


def test_the_name_is_given_only_after_the_hash_was_checked(site, folder, monkeypatch):
    seen, path, check = [], folder / "set.npz", pooch.core.hash_matches

    def checked(*arguments, **options):
        seen.append(path.exists())
        return check(*arguments, **options)

    monkeypatch.setattr(pooch.core, "hash_matches", checked)
    download(site.file(), folder, progress=lambda done, total: seen.append(path.exists()))
    assert len(seen) > 3
    assert not any(seen)


def test_a_wrong_hash_leaves_nothing_and_says_what_came(site, folder):
    site.body = OTHER
    message = refused(site, folder)
    assert MD5 in message
    assert hashlib.md5(OTHER).hexdigest() in message
    assert "Try again" in message
    assert f"save {site.file().url} as {folder / 'set.npz'} ({MD5})" in message
    assert files(folder) == []


@pytest.mark.parametrize("hash", [MD5, None])
def test_a_size_that_is_announced_wrong_is_refused_before_a_byte_comes(site, folder, hash):
    message = refused(site, folder, site.file(hash, 299_999))
    assert "it has 300000 bytes where 299999 are expected" in message
    assert files(folder) == []


def test_more_bytes_than_there_can_be_are_refused(site, folder):
    site.script = [whole]
    assert "more than the expected 1000 bytes" in refused(site, folder, site.file(None, 1000))


def test_fewer_bytes_than_there_must_be_are_refused(site, folder):
    site.script = [whole] * 9
    message = refused(site, folder, site.file(None, 400_000))
    assert "it ended after 300000 of 400000 bytes" in message
    assert len(site.requests) == 5


def test_the_sums_of_files_without_a_hash_are_kept_for_sha256sum(site, folder):
    for name in ("a.zip", "b.zip", "a.zip"):
        (folder / name).unlink(missing_ok=True)
        download(RemoteFile(name, f"{site.url}/{name}"), folder)
    sums = (folder / "SHA256SUMS").read_text()
    assert sorted(sums.splitlines()) == [f"{SHA256}  a.zip", f"{SHA256}  b.zip"]
    if shutil.which("sha256sum"):
        subprocess.run(
            ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, timeout=10
        )


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc/x", "a\\b", "C:x"])
def test_a_name_is_a_plain_name(name):
    with pytest.raises(DataError, match="plain name"):
        RemoteFile(name, "https://example.org/x")


@pytest.mark.parametrize("hash", ["", "md5:123", "sha1:" + "0" * 40, "0" * 64, MD5.upper()])
def test_a_hash_names_its_kind(hash):
    with pytest.raises(DataError, match="a hash is md5:... or sha256:..."):
        RemoteFile("x", "https://example.org/x", hash)


# A file that is here already


def test_a_file_that_is_here_needs_no_network(site, folder):
    folder.mkdir(parents=True)
    (folder / "set.npz").write_bytes(BODY)
    assert download(site.file(), folder).read_bytes() == BODY
    assert site.requests == []
    assert files(folder) == ["set.npz"]


@pytest.mark.parametrize("content", [OTHER, BODY[:-1], b""])
def test_a_wrong_file_that_is_here_is_named_and_left(site, folder, content):
    folder.mkdir(parents=True)
    (folder / "set.npz").write_bytes(content)
    with pytest.raises(DownloadError, match="is not what it should be: .* Delete it") as error:
        download(site.file(), folder)
    assert str(folder / "set.npz") in str(error.value)
    assert (folder / "set.npz").read_bytes() == content
    assert site.requests == []


def test_a_file_here_must_have_its_size_even_without_a_hash(site, folder):
    folder.mkdir(parents=True)
    (folder / "set.npz").write_bytes(BODY[:-1])
    with pytest.raises(DownloadError, match="expected 300000 bytes, found 299999"):
        download(site.file(None), folder)


def test_a_file_without_a_published_hash_is_held_against_the_sum_of_its_download(site, folder):
    path = download(site.file(None), folder)
    path.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=f"expected sha256:{SHA256}, found"):
        download(site.file(None), folder)


# Going on where it broke off


def test_a_broken_transfer_goes_on_where_it_ended(site, folder):
    site.script = [cut(100_000)]
    assert download(site.file(), folder, **QUICK).read_bytes() == BODY
    assert site.ranges == [None, "bytes=100000-"]
    assert site.requests[1][1]["If-Range"] == '"1"'


def test_a_later_call_goes_on_where_the_first_gave_up(site, folder):
    site.script = [cut(100_000), hang_up]
    refused(site, folder, attempts=2)
    assert files(folder) == [".set.npz.part", ".set.npz.part.etag"]
    assert (folder / ".set.npz.part").read_bytes() == BODY[:100_000]
    assert download(site.file(), folder).read_bytes() == BODY
    assert site.ranges == [None, "bytes=100000-", "bytes=100000-"]
    assert files(folder) == ["set.npz"]


@pytest.mark.parametrize("hash", [MD5, None])
def test_a_server_without_ranges_sends_all_again(site, folder, hash):
    site.script = [cut(100_000), whole]
    assert download(site.file(hash), folder, **QUICK).read_bytes() == BODY
    assert site.ranges == [None, "bytes=100000-"]


def test_halves_of_two_versions_are_not_glued(site, folder):
    site.script = [cut(100_000)]
    refused(site, folder, site.file(None), attempts=1)
    site.body, site.etag = OTHER, '"2"'
    assert download(site.file(None), folder).read_bytes() == OTHER


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_hash_and_validator_all_is_fetched_again(site, folder, etag):
    site.etag = etag
    site.script = [cut(100_000)]
    refused(site, folder, site.file(None), attempts=1)
    site.body = OTHER
    assert download(site.file(None), folder).read_bytes() == OTHER
    assert site.ranges == [None, None]


def test_a_weak_etag_is_no_validator_but_a_date_is(site, folder):
    date = "Tue, 15 Nov 1994 12:45:26 GMT"
    site.script = [cut(100_000, **{"ETag": 'W/"1"', "Last-Modified": date})]
    assert download(site.file(), folder, **QUICK).read_bytes() == BODY
    assert site.requests[1][1]["If-Range"] == date


def test_another_range_than_the_one_asked_for_is_not_used(site, folder):
    wrong = {"Content_Range": f"bytes 0-{len(BODY) - 1}/{len(BODY)}"}
    site.script = [cut(100_000), status(206, **wrong)]
    assert download(site.file(), folder, **QUICK).read_bytes() == BODY
    assert site.ranges == [None, "bytes=100000-", None]


def test_a_partial_file_that_is_too_long_is_begun_again(site, folder):
    folder.mkdir(parents=True)
    (folder / ".set.npz.part").write_bytes(BODY + b"x")
    assert download(site.file(), folder, **QUICK).read_bytes() == BODY
    assert site.ranges == ["bytes=300001-", None]


def test_a_partial_file_that_is_whole_is_only_checked(site, folder):
    folder.mkdir(parents=True)
    (folder / ".set.npz.part").write_bytes(BODY)
    assert download(site.file(), folder).read_bytes() == BODY
    assert site.requests == []


def test_a_partial_file_that_is_whole_and_wrong_is_thrown_away(site, folder):
    folder.mkdir(parents=True)
    (folder / ".set.npz.part").write_bytes(OTHER)
    refused(site, folder)
    assert files(folder) == []
    assert download(site.file(), folder).read_bytes() == BODY


# Trying again


@pytest.mark.parametrize("answer", [status(429), status(500), status(503), hang_up, cut(0)])
def test_what_may_pass_is_tried_again(site, folder, sleeps, answer):
    site.script = [answer] * 4
    assert download(site.file(), folder).read_bytes() == BODY
    assert sleeps == [1, 2, 4, 8]


@pytest.mark.parametrize("answer", [status(503), hang_up, cut(1000)])
def test_the_attempts_come_to_an_end(site, folder, sleeps, answer):
    site.script = [answer] * 20
    message = refused(site, folder, attempts=4)
    assert len(site.requests) == 4
    assert site.file().url in message
    assert "By hand" in message


@pytest.mark.parametrize(
    ("asked", "pause"),
    [("7", 7), ("0", 1), ("86400", 60), ("Fri, 31 Dec 1999 23:59:59 GMT", 1), ("soon", 1)],
)
def test_the_wish_of_the_server_is_heard_within_reason(site, folder, sleeps, asked, pause):
    site.script = [status(503, Retry_After=asked)]
    download(site.file(), folder)
    assert sleeps == [pause]


def test_attempts_that_bring_much_are_not_counted(site, folder, sleeps, monkeypatch):
    monkeypatch.setattr(transfer, "GOOD_PART", 20_000)

    def some(handler):
        start = int(handler.headers["Range"][6:-1])
        place = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        handler.begin(206, {"Content-Length": str(len(BODY) - start), "Content-Range": place})
        handler.wfile.write(BODY[start : start + 20_000])

    site.script = [cut(20_000)] + [some] * 9
    assert download(site.file(), folder, attempts=2).read_bytes() == BODY
    assert len(site.requests) == 11


def test_attempts_after_one_that_brought_much_are_counted(site, folder, sleeps, monkeypatch):
    monkeypatch.setattr(transfer, "GOOD_PART", 20_000)
    site.script = [cut(20_000)] + [hang_up] * 50
    refused(site, folder, attempts=3)
    assert len(site.requests) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_refusal_is_final_and_says_what_to_do(site, folder, code):
    site.script = [status(code)]
    message = refused(site, folder)
    assert len(site.requests) == 1
    for text in (str(code), site.file().url, "set.npz", MD5, str(folder), "FEDTUTOR_MIRROR"):
        assert text in message
    assert files(folder) == []


@pytest.mark.parametrize("answer", [stall(0), stall(70_000), lambda h: h.server.closing.wait(20)])
def test_a_server_that_falls_silent_is_not_waited_for(site, folder, answer):
    site.script = [answer] * 2
    began = time.monotonic()
    message = refused(site, folder, attempts=2, timeout=(1.0, 0.1))
    assert re.search(r"timed out.*By hand", message)
    assert len(site.requests) == 2
    assert time.monotonic() - began < 2


def test_a_connection_that_is_never_answered_is_not_waited_for(folder):
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # a full queue makes the kernel drop what comes next
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.05)
        file = RemoteFile("set.npz", f"http://127.0.0.1:{listener.getsockname()[1]}/x", MD5)
        began = time.monotonic()
        with pytest.raises(DownloadError, match="no connection .*timed out"):
            download(file, folder, timeout=(0.2, 20.0), wait=0.01)
        assert 0.3 < time.monotonic() - began < 2


def test_a_server_that_was_there_once_is_tried_more_often(folder, sleeps):
    """A wireless network that drops out in the middle of 4 GB."""
    listener = socket.create_server(("127.0.0.1", 0))
    file = RemoteFile("set.npz", f"http://127.0.0.1:{listener.getsockname()[1]}/x", MD5)

    def send_some_and_go_down():
        connection, _ = listener.accept()
        listener.close()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + BODY[:70_000])

    server = threading.Thread(target=send_some_and_go_down)
    server.start()
    assert "no connection" in refused(None, folder, file, wait=1.0)
    server.join()
    assert sleeps == [1, 2, 4, 8]


# Without a network


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_without_a_server_it_ends_at_once_and_says_what_to_do(folder):
    file = RemoteFile("set.npz", f"http://127.0.0.1:{closed_port()}/set.npz", MD5)
    began = time.monotonic()
    message = refused(None, folder, file, wait=1.0, timeout=(10.0, 30.0))
    assert time.monotonic() - began < 3
    assert "no connection" in message
    for text in ("refused", f"save {file.url} as {folder / 'set.npz'} ({MD5})"):
        assert text in message
    assert "set FEDTUTOR_MIRROR to a folder or an address that has set/set.npz" in message
    assert files(folder) == []


def test_without_a_name_server_it_ends_at_once(folder, monkeypatch, sleeps):
    def unknown(*arguments, **options):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = refused(None, folder, RemoteFile("set.npz", "https://zenodo.org/set.npz"), wait=1.0)
    assert "no connection" in message
    assert "name resolution" in message
    assert sleeps == [1]


@pytest.mark.parametrize("url", ["ftp://example.org/x", "no-address", "https://"])
def test_a_wrong_address_is_tried_once(folder, sleeps, url):
    assert f"By hand: save {url} as" in refused(None, folder, RemoteFile("set.npz", url))
    assert sleeps == []


# Whom to believe


def test_https_goes_to_https(tls_site, folder):
    tls_site.script = [redirect("/elsewhere"), redirect(f"{tls_site.url}/there")]
    assert download(tls_site.file(), folder, **QUICK).read_bytes() == BODY
    assert [path for path, _ in tls_site.requests][1:] == ["/elsewhere", "/there"]


def test_http_may_go_to_https(tls_site, site, folder):
    site.script = [redirect(tls_site.url + "/x")]
    assert download(site.file(), folder, **QUICK).read_bytes() == BODY


@pytest.mark.parametrize("hops", [0, 2])
@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_https_never_goes_to_http(tls_site, site, folder, scheme, hops):
    away = f"{scheme}://127.0.0.1:{site.server_port}/x"
    tls_site.script = [redirect("/again")] * hops + [redirect(away)]
    assert "which is refused as it is no https" in refused(tls_site, folder)
    assert len(tls_site.requests) == hops + 1
    assert site.requests == []


def test_an_unknown_certificate_is_refused(tls_site, folder, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "CERTIFICATE_VERIFY_FAILED" in refused(tls_site, folder)
    assert tls_site.requests == []


def test_redirects_in_a_circle_end(site, folder):
    site.script = [redirect("/set.npz")] * 500
    assert "redirects. By hand" in refused(site, folder, attempts=1)


@pytest.mark.parametrize("hash", [MD5, None])
def test_a_web_page_in_place_of_the_file_is_refused(site, folder, hash):
    def page(handler):
        handler.begin(200, {"Content-Type": "text/html; charset=utf-8"})
        handler.wfile.write(b"<html>Please log in</html>")

    site.script = [page]
    assert "a web page came in place of the file" in refused(site, folder, site.file(hash, None))
    assert len(site.requests) == 1
    assert files(folder) == []


# What the learner sees


def test_progress_is_told_to_a_function(site, folder):
    told = []
    site.script = [cut(100_000)]
    download(site.file(), folder, progress=lambda *numbers: told.append(numbers), **QUICK)
    assert told == sorted(told)
    assert told[-1] == (len(BODY), len(BODY))
    assert 100_000 in [done for done, _ in told]


def test_progress_is_shown_on_a_bar_of_the_caller(site, folder):
    with Progress(disable=True) as bar:
        download(site.file(), folder, progress=bar)
    assert [(task.description, task.completed, task.total) for task in bar.tasks] == [
        ("set.npz", len(BODY), len(BODY))
    ]


def test_without_a_terminal_nothing_is_printed(site, folder, capfd):
    download(site.file(None), folder)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(site, folder, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    download(site.file(), folder)
    out, err = capfd.readouterr()
    assert out == ""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
    assert "set.npz" in text
    assert "300.0/300.0 kB" in text


# The disk


def test_a_disk_without_room_is_known_before_the_first_byte(site, folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    room = transfer.RESERVE + len(BODY)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage(0, 0, room - 1))
    assert re.search(r"has 135 MB free and 135 are needed; make room", refused(site, folder))
    assert not (folder / ".set.npz.part").exists()
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage(0, 0, room))
    download(site.file(), folder)


def test_only_the_missing_part_needs_room(site, folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    site.script = [cut(200_000)]
    refused(site, folder, attempts=1)
    room = transfer.RESERVE + 100_000
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage(0, 0, room))
    assert download(site.file(), folder).read_bytes() == BODY


def test_a_disk_that_fills_up_is_named_and_the_part_is_kept(site, folder, monkeypatch):
    class Full:
        def __init__(self, *arguments):
            self.stream = open(*arguments)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.stream.close()

        def write(self, chunk):
            if self.stream.tell() > 100_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.stream.write(chunk)

    monkeypatch.setattr(transfer, "open", Full, raising=False)
    message = refused(site, folder)
    assert f"{folder}: No space left on device. Make room" in message
    have = (folder / ".set.npz.part").stat().st_size
    assert have > 100_000
    monkeypatch.undo()
    assert download(site.file(), folder, mirror="").read_bytes() == BODY
    assert site.ranges == [None, f"bytes={have}-"]


def test_a_real_disk_that_fills_up(site, folder, monkeypatch):
    monkeypatch.setattr(transfer, "RESERVE", 0)
    with mounted(folder, "size=128k"):
        assert "make room" in refused(site, folder)
        site.script = [whole]
        assert "No space left on device" in refused(site, folder, site.file(MD5, None))
        have = (folder / ".set.npz.part").stat().st_size
        assert 0 < have <= 128 * 1024
        subprocess.run(["mount", "-o", "remount,size=2m", str(folder)], check=True)
        assert download(site.file(MD5, None), folder).read_bytes() == BODY
        assert site.ranges[-1] == f"bytes={have}-"


@pytest.mark.parametrize("below", ["", "deeper/"])
def test_a_folder_that_cannot_be_made_is_named(site, tmp_path, below):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="file.*FEDTUTOR_DATA"):
        download(site.file(), tmp_path / "file" / f"{below}set")
    assert site.requests == []


def test_a_read_only_disk_serves_what_it_has_and_no_more(site, folder):
    with mounted(folder, "size=2m"):
        (folder / "set.npz").write_bytes(BODY)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert download(site.file(), folder).read_bytes() == BODY
        with pytest.raises(DownloadError, match="Read-only file system.*FEDTUTOR_DATA"):
            download(RemoteFile("other.npz", site.url), folder)
    assert site.requests == []


# Other processes, and ends that nobody planned


def test_of_eight_processes_one_downloads_and_all_have_the_file(site, folder):
    site.script = [slow] * 8
    out, err = run(EIGHT, site, folder).communicate(timeout=30)
    assert (out.split(), err) == ([str(folder / "set.npz")] * 8, "")
    assert len(site.requests) == 1
    assert (folder / "set.npz").read_bytes() == BODY
    assert files(folder) == ["set.npz"]


def test_after_a_kill_the_next_call_goes_on(site, folder):
    site.script = [stall(200_000)]
    process, part = run(ONE, site, folder), folder / ".set.npz.part"
    give_up = time.monotonic() + 10
    while not (part.exists() and part.stat().st_size >= 150_000) and time.monotonic() < give_up:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert files(folder) == [".set.npz.part", ".set.npz.part.etag"]
    have = part.stat().st_size
    assert have >= 150_000
    assert download(site.file(), folder).read_bytes() == BODY
    assert site.ranges == [None, f"bytes={have}-"]
    assert files(folder) == ["set.npz"]


def test_ctrl_c_leaves_the_part_and_nothing_else(site, folder):
    def interrupt(done, total):
        if done > 150_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(site.file(), folder, progress=interrupt)
    assert files(folder) == [".set.npz.part", ".set.npz.part.etag"]
    have = (folder / ".set.npz.part").stat().st_size
    assert download(site.file(), folder).read_bytes() == BODY
    assert site.ranges == [None, f"bytes={have}-"]


def test_ctrl_c_during_the_check_does_not_throw_4_gb_away(site, folder, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pooch.core, "hash_matches", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(site.file(), folder)
    assert files(folder) == [".set.npz.part", ".set.npz.part.etag"]
    assert download(site.file(), folder).read_bytes() == BODY
    assert len(site.requests) == 1


def test_what_a_kill_during_the_check_left_is_tidied_away(site, folder):
    folder.mkdir(parents=True)
    (folder / ".set.npz.part").write_bytes(BODY)
    os.link(folder / ".set.npz.part", folder / "tmpabcdefg")
    (folder / "tmp.txt").write_text("of somebody else")
    download(site.file(), folder)
    assert files(folder) == ["set.npz", "tmp.txt"]


def test_a_disk_without_hard_links_will_do(site, folder, monkeypatch):
    def no_links(*arguments):
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", no_links)
    assert download(site.file(), folder).read_bytes() == BODY
    assert files(folder) == ["set.npz"]


# The mirror of a class


@pytest.fixture
def mirror(tmp_path):
    (tmp_path / "mirror" / "set").mkdir(parents=True)
    (tmp_path / "mirror" / "set" / "set.npz").write_bytes(BODY)
    return tmp_path / "mirror"


@pytest.mark.parametrize("hash", [MD5, None])
def test_a_folder_can_be_the_mirror(site, folder, mirror, monkeypatch, hash):
    monkeypatch.setenv("FEDTUTOR_MIRROR", str(mirror))
    told = []
    path = download(site.file(hash), folder, progress=lambda *numbers: told.append(numbers))
    assert path.read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY))
    assert site.requests == []
    assert files(folder) == (["set.npz"] if hash else ["SHA256SUMS", "set.npz"])


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_address_can_be_the_mirror(site, tmp_path, slash):
    file = RemoteFile("a?b.npz", "https://example.invalid/x", MD5, len(BODY))
    path = download(file, tmp_path / "set #1", mirror=f"{site.url}/class{slash}")
    assert path.read_bytes() == BODY
    assert [path for path, _ in site.requests] == ["/class/set%20%231/a%3Fb.npz"]


def test_an_argument_goes_before_the_environment(site, folder, mirror, monkeypatch):
    monkeypatch.setenv("FEDTUTOR_MIRROR", "/nowhere")
    download(site.file(), folder, mirror=mirror)
    (folder / "set.npz").unlink()
    download(site.file(), folder, mirror="")
    assert len(site.requests) == 1


def test_a_mirror_is_not_believed(site, folder, mirror):
    (mirror / "set" / "set.npz").write_bytes(OTHER)
    message = refused(site, folder, mirror=mirror)
    assert str(mirror / "set" / "set.npz") in message
    assert MD5 in message
    assert files(folder) == []


def test_what_a_mirror_lacks_is_not_fetched_elsewhere(site, folder, mirror):
    (mirror / "set" / "set.npz").unlink()
    message = refused(site, folder, mirror=mirror)
    assert f"{mirror}/set/set.npz: No such file" in message
    assert f"save {site.file().url} as" in message
    assert "or put set/set.npz into the mirror, or unset FEDTUTOR_MIRROR" in message
    assert site.requests == []


def test_what_a_mirror_at_an_address_lacks_is_not_fetched_elsewhere(site, folder):
    site.script = [status(404)]
    file = RemoteFile("set.npz", "https://example.invalid/x", MD5)
    message = refused(site, folder, file, mirror=f"{site.url}/class")
    assert f"{site.url}/class/set/set.npz: the server answered 404" in message
    assert file.url in message
    assert len(site.requests) == 1


def sums(digest):
    def answer(handler):
        handler.begin(200, {})
        handler.wfile.write(f"{'0' * 64}  other.npz\n{digest} *set.npz\n".encode())

    return answer


@pytest.mark.parametrize("at_an_address", [False, True])
@pytest.mark.parametrize("content", [BODY, OTHER])
def test_a_file_without_a_hash_is_held_against_the_sums_of_the_mirror(
    site, folder, mirror, content, at_an_address
):
    file = RemoteFile("set.npz", "https://example.invalid/x")
    site.body = content
    (mirror / "set" / "set.npz").write_bytes(content)
    (mirror / "set" / "SHA256SUMS").write_text(f"{SHA256}  set.npz\n")
    site.script = [status(503), sums(SHA256)]
    place = f"{site.url}/class" if at_an_address else mirror
    if content is BODY:
        download(file, folder, mirror=place, **QUICK)
        assert (folder / "SHA256SUMS").read_text() == f"{SHA256}  set.npz\n"
    else:
        assert f"expected sha256:{SHA256} but got" in refused(site, folder, file, mirror=place)
        assert files(folder) == []
    if at_an_address:
        paths = [path.rpartition("/")[2] for path, _ in site.requests]
        assert paths == ["SHA256SUMS", "SHA256SUMS", "set.npz"]


@pytest.mark.parametrize("answer", [status(404), sums("f" * 63), sums(SHA256[1:] + "x")])
def test_a_mirror_may_have_no_sums(site, folder, answer):
    site.script = [answer]
    download(RemoteFile("set.npz", "https://example.invalid/x"), folder, mirror=site.url)
    assert (folder / "SHA256SUMS").read_text() == f"{SHA256}  set.npz\n"


def test_a_copy_begins_anew_where_a_download_broke_off(site, folder, mirror):
    site.script = [cut(100_000)]
    refused(site, folder, attempts=1)
    assert download(site.file(), folder, mirror=mirror).read_bytes() == BODY
    assert files(folder) == ["set.npz"]
