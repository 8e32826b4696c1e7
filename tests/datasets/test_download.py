"""Downloads against a server on this machine that does whatever a test tells it to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from fedtutor.datasets import disk
from fedtutor.datasets.download import RemoteFile, transfer
from fedtutor.datasets.download import file as file_module
from fedtutor.datasets.download.file import download_file
from fedtutor.deployment.certificates import write_tls_files
from fedtutor.errors import DataError

SIZE = 300_000
BODY, OTHER = random.Random(0).randbytes(SIZE), random.Random(1).randbytes(SIZE)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Site(ThreadingHTTPServer):
    """Answers each request by the next of ``script``, and serves ``body`` when that is empty."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, scheme="http"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme, self.body, self.script, self.requests = scheme, BODY, [], []
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
    body, headers, start = handler.server.body, {}, 0
    if asked := handler.headers.get("Range"):
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            handler.begin(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    handler.begin(206 if start else 200, headers | {"Content-Length": str(len(body) - start)})
    for chunk in range(start, len(body), 10_000):
        handler.wfile.write(body[chunk : chunk + 10_000])
        time.sleep(pause)


def slow(handler):
    serve(handler, pause=0.02)


def cut(n):
    """Promise all, send ``n`` bytes and hang up."""

    def answer(handler):
        handler.begin(200, {"Content-Length": str(SIZE)})
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


def chunked(handler):
    """As from a server that tells no length, but where each piece and the whole end."""
    handler.protocol_version = "HTTP/1.1"
    handler.begin(200, {"Transfer-Encoding": "chunked"})
    body = handler.server.body
    for start in range(0, len(body), 70_000):
        piece = body[start : start + 70_000]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def endless(start, piece, pause=0.0):
    """Send ``start``, and then ``piece`` again and again until nobody listens."""

    def answer(handler):
        handler.wfile.write(start)
        while not handler.server.closing.wait(pause):
            handler.wfile.write(piece)

    return answer


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
def alone_and_quick(monkeypatch):
    """No mirror and no proxy of this machine, and short waits."""
    monkeypatch.delenv("FEDTUTOR_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(transfer, "WAIT", 0.01)
    monkeypatch.setattr(transfer, "TIMEOUT", (1.0, 0.5))


@pytest.fixture
def site():
    with running(Site()) as site:
        yield site


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "set"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return write_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_site(certificates, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    site = Site("https")
    site.socket = context.wrap_socket(site.socket, server_side=True)
    with running(site):
        yield site


@pytest.fixture
def sleeps(monkeypatch):
    """The pauses between attempts, which then take no time."""
    pauses = []
    monkeypatch.setattr(transfer, "WAIT", 1.0)
    monkeypatch.setattr(
        transfer, "time", SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic)
    )
    return pauses


def files(folder):
    """What lies in the folder; a lock file stays, as deleting it would free it for two."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def refused(file, folder, **options):
    """The message of a download that must fail, leaving nothing under the final name."""
    with pytest.raises(DataError) as error:
        download_file(file, folder, **options)
    assert not (folder / "set.npz").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


# What arrives, and when it gets its name


@pytest.mark.parametrize("num_bytes", [SIZE, None])
@pytest.mark.parametrize("hash", [MD5, SHA256, None])
def test_a_file_arrives_whole(site, folder, hash, num_bytes):
    path = download_file(site.file(hash, num_bytes), folder)
    assert path == folder / "set.npz"
    assert path.read_bytes() == BODY
    assert files(folder) == ["set.npz"]
    assert site.requests[0][1]["Accept-Encoding"] == "identity"


def test_a_wrong_hash_leaves_nothing_and_says_what_came(site, folder):
    site.body = OTHER
    message = refused(site.file(), folder)
    assert MD5 in message
    assert hashlib.md5(OTHER).hexdigest() in message
    assert "try again" in message
    assert f"save {site.file().url} as {folder / 'set.npz'} ({MD5})" in message
    assert files(folder) == []


@pytest.mark.parametrize(
    ("answer", "num_bytes", "words"),
    [
        (serve, 299_999, "it has 300000 bytes where 299999 are expected"),
        (whole, 1000, "more than the expected 1000 bytes"),
        (whole, 400_000, "it ended after 300000 of 400000 bytes"),
    ],
)
def test_another_size_than_the_known_one_is_refused(site, folder, answer, num_bytes, words):
    site.script = [answer] * 9
    assert words in refused(site.file(None, num_bytes), folder)


def test_a_file_arrives_whole_in_pieces_of_a_length_told_only_then(site, folder):
    site.script = [chunked]
    assert download_file(site.file(MD5, None), folder).read_bytes() == BODY


# What a hostile server or mirror sends

HEAD = b"HTTP/1.1 200 OK\r\n"


def test_a_body_without_an_end_is_taken_up_to_the_most_that_is_expected(site, folder):
    site.script = [endless(HEAD + b"\r\n", bytes(10_000))]
    file = replace(site.file(None, None), max_bytes=500_000)
    assert "it has more than the expected 500000 bytes" in refused(file, folder)
    assert (folder / ".set.npz.part").stat().st_size <= 500_000


@pytest.mark.parametrize("size", ["500001", "9" * 30])
def test_a_length_above_the_most_that_is_expected_is_refused_at_once(site, folder, size):
    site.script = [lambda handler: handler.begin(200, {"Content-Length": size})]
    file = replace(site.file(None, None), max_bytes=500_000)
    assert f"it has {size} bytes where at most 500000 are expected" in refused(file, folder)
    assert files(folder) == []


def test_a_body_leaves_the_reserve_of_the_disk(site, folder, monkeypatch):
    free = iter(range(disk.RESERVE + 200_000, 0, -transfer.CHUNK))
    usage = lambda path: SimpleNamespace(free=next(free))  # noqa: E731
    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    site.script = [whole]
    assert "MB are free and 134 MB are needed" in refused(site.file(MD5, None), folder)
    assert 0 < (folder / ".set.npz.part").stat().st_size < 200_000


def test_what_comes_with_a_redirect_is_not_read(site, folder):
    begin = f"HTTP/1.1 302 Found\r\nLocation: {site.url}/there\r\n\r\n".encode()
    site.script = [endless(begin, bytes(10_000))]
    assert download_file(site.file(), folder).read_bytes() == BODY
    assert [path for path, _ in site.requests][1:] == ["/there"]


def test_redirects_have_an_end(site, folder):
    site.script = [redirect("/again")] * 999
    assert "Exceeded 30 redirects" in refused(site.file(), folder)
    site.script = [redirect("http://[")] * 99
    assert "Invalid IPv6" in refused(site.file(), folder)


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("start", [CHUNKED + b"1;", CHUNKED, HEAD])
def test_a_line_without_an_end_is_not_read_into_memory(site, folder, start):
    """As the size of a chunk, after the last, or as a header."""
    site.script = [endless(start, b"0" * 10_000)] * 9
    assert "By hand" in refused(site.file(), folder)


@pytest.fixture
def impatient(monkeypatch):
    for name, seconds in (("GRACE", 0.3), ("LOOK", 0.05), ("SLOWEST", 10_000)):
        monkeypatch.setattr(transfer, name, seconds)


TRICKLES = {
    "body": (HEAD + b"Content-Length: 300000\r\n\r\n", b"x"),
    "header": (HEAD, b"x"),
    "headers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "size of a chunk": (CHUNKED + b"1;", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
}


@pytest.mark.parametrize(("start", "piece"), TRICKLES.values(), ids=TRICKLES)
def test_a_server_that_never_falls_silent_is_left_all_the_same(
    site, folder, impatient, start, piece
):
    site.script = [endless(start, piece, pause=0.02)] * 9
    message = refused(site.file(), folder)
    assert "it comes at less than 10,000 bytes a second. By hand" in message


def test_a_server_that_sends_a_little_and_hangs_up_again_and_again_is_left(site, folder, impatient):
    def more(handler):
        start = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        place = f"bytes {start}-{SIZE - 1}/{SIZE}"
        handler.begin(206 if start else 200, {"Content-Length": "300000", "Content-Range": place})
        handler.wfile.write(b"x")

    site.script = [more] * 10_000
    assert "it comes at less than" in refused(site.file(), folder)


def test_a_slow_and_steady_download_is_waited_for(site, folder, impatient, monkeypatch):
    """Each look finds that hours have passed, once the one before has found some bytes."""
    part, sizes = folder / ".set.npz.part", [0]

    def clock():
        sizes.append(part.stat().st_size if part.exists() else 0)
        return 5 * 3600.0 * (sizes[-2] > 0)

    monkeypatch.setattr(transfer, "SLOWEST", 1)
    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    site.script = [slow]
    assert download_file(site.file(), folder).read_bytes() == BODY


def test_what_was_given_up_is_not_touched_any_more(tmp_path):
    """Its thread may still wait for bytes when somebody else goes on with the file."""
    file = RemoteFile("x", "https://nowhere.invalid/x")
    part = transfer.PartialFile(tmp_path / "x.part", file, lambda *_: None)
    part.append([b"x"], None)
    part.given_up.set()
    for step in (lambda: part.append([b"y"], None), part.forget):
        with pytest.raises(transfer.TransferError, match="given up"):
            step()
    assert part.path.read_bytes() == b"x"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_is_no_file_wherever_it_lies(site, folder, mirror):
    (mirror / "set" / "set.npz").unlink()
    os.mkfifo(mirror / "set" / "set.npz")
    assert "it is no plain file. By hand" in refused(site.file(), folder, mirror=mirror)
    os.mkfifo(folder / "set.npz")
    with pytest.raises(DataError, match="is not what it should be: it is no plain file"):
        download_file(site.file(None, None), folder)


# A file that is here already


def test_a_file_that_is_here_needs_no_network(site, folder):
    folder.mkdir(parents=True)
    (folder / "set.npz").write_bytes(BODY)
    assert download_file(site.file(), folder).read_bytes() == BODY
    assert site.requests == []
    assert files(folder) == ["set.npz"]


@pytest.mark.parametrize(
    ("content", "hash"), [(OTHER, MD5), (BODY[:-1], MD5), (BODY[:-1], None), (b"", None)]
)
def test_a_wrong_file_that_is_here_is_named_and_left(site, folder, content, hash):
    folder.mkdir(parents=True)
    (folder / "set.npz").write_bytes(content)
    words = rf"{folder / 'set.npz'} is not what it should be: expected .* found .* Delete it"
    with pytest.raises(DataError, match=words):
        download_file(site.file(hash), folder)
    assert (folder / "set.npz").read_bytes() == content
    assert site.requests == []


# Resuming


@pytest.mark.parametrize("hash", [MD5, None])
def test_a_broken_transfer_is_resumed(site, folder, hash):
    site.script = [cut(100_000)]
    assert download_file(site.file(hash), folder).read_bytes() == BODY
    assert site.ranges == [None, "bytes=100000-"]


def test_a_later_call_resumes_what_the_first_gave_up(site, folder):
    site.script = [cut(100_000)] + [hang_up] * 4
    refused(site.file(), folder)
    assert files(folder) == [".set.npz.part"]
    assert (folder / ".set.npz.part").read_bytes() == BODY[:100_000]
    assert download_file(site.file(), folder).read_bytes() == BODY
    assert site.ranges == [None] + ["bytes=100000-"] * 5
    assert files(folder) == ["set.npz"]


def test_a_server_without_ranges_sends_all_again(site, folder):
    site.script = [cut(100_000), whole]
    assert download_file(site.file(None), folder).read_bytes() == BODY
    assert site.ranges == [None, "bytes=100000-"]


def test_another_range_than_the_one_asked_for_is_not_used(site, folder):
    wrong = {"Content_Range": f"bytes 0-{SIZE - 1}/{SIZE}"}
    site.script = [cut(100_000), status(206, **wrong)]
    assert download_file(site.file(), folder).read_bytes() == BODY
    assert site.ranges == [None, "bytes=100000-", None]


def test_halves_of_two_versions_are_not_kept(site, folder):
    folder.mkdir(parents=True)
    (folder / ".set.npz.part").write_bytes(OTHER[:100_000])
    assert "try again" in refused(site.file(), folder)
    assert files(folder) == []
    assert download_file(site.file(), folder).read_bytes() == BODY


@pytest.mark.parametrize("content", [BODY, OTHER])
def test_a_partial_file_that_is_whole_is_only_checked(site, folder, content):
    folder.mkdir(parents=True)
    (folder / ".set.npz.part").write_bytes(content)
    if content is OTHER:
        refused(site.file(), folder)
        assert files(folder) == []
    else:
        assert download_file(site.file(), folder).read_bytes() == BODY
    assert site.requests == []


# Trying again


@pytest.mark.parametrize("answer", [status(429), status(503), hang_up, cut(0)])
def test_what_may_pass_is_tried_again(site, folder, sleeps, answer):
    site.script = [answer] * 4
    assert download_file(site.file(), folder).read_bytes() == BODY
    assert sleeps == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("asked", "pause"),
    [("7", 7), ("0", 1), ("86400", 60), ("Fri, 31 Dec 1999 23:59:59 GMT", 1), ("soon", 1)],
)
def test_the_wish_of_the_server_is_heard_within_reason(site, folder, sleeps, asked, pause):
    site.script = [status(503, Retry_After=asked)]
    download_file(site.file(), folder)
    assert sleeps == [pause]


def test_attempts_that_bring_something_new_are_not_counted(site, folder, sleeps):
    def some(handler):
        start = int(handler.headers["Range"][6:-1])
        place = f"bytes {start}-{SIZE - 1}/{SIZE}"
        handler.begin(206, {"Content-Length": str(SIZE - start), "Content-Range": place})
        handler.wfile.write(BODY[start : start + 20_000])

    site.script = [cut(20_000)] + [some] * 9
    assert download_file(site.file(), folder).read_bytes() == BODY
    assert sleeps == [1] * 10


@pytest.mark.parametrize("code", [401, 404])
def test_a_refusal_is_final_and_says_what_to_do(site, folder, code):
    site.script = [status(code)]
    message = refused(site.file(), folder)
    assert len(site.requests) == 1
    for text in (str(code), site.file().url, "set.npz", MD5, str(folder), "FEDTUTOR_MIRROR"):
        assert text in message
    assert files(folder) == []


@pytest.mark.parametrize("answer", [stall(70_000), lambda h: h.server.closing.wait(20)])
def test_a_server_that_falls_silent_is_not_waited_for(site, folder, answer, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", (1.0, 0.1))
    site.script = [answer] * 9
    assert re.search(r"timed out.*By hand", refused(site.file(), folder))


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
    assert "no connection" in refused(file, folder)
    server.join()
    assert sleeps == [1, 2, 4, 8]


# Without a network


def test_without_a_server_it_ends_at_once_and_says_what_to_do(folder, sleeps):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    file = RemoteFile("set.npz", f"http://127.0.0.1:{port}/set.npz", MD5)
    message = refused(file, folder)
    for text in ("no connection", "refused", f"save {file.url} as {folder / 'set.npz'} ({MD5})"):
        assert text in message
    assert "set FEDTUTOR_MIRROR to a folder or an address that has set/set.npz" in message
    assert sleeps == [1]
    assert files(folder) == []


@pytest.mark.parametrize("url", ["ftp://example.org/x", "no-address", "https://"])
def test_a_wrong_address_is_tried_once(folder, sleeps, url):
    assert f"By hand: save {url} as" in refused(RemoteFile("set.npz", url), folder)
    assert sleeps == []


# Whom to believe


def test_https_goes_to_https(tls_site, folder):
    tls_site.script = [redirect("/elsewhere"), redirect(f"{tls_site.url}/there")]
    assert download_file(tls_site.file(), folder).read_bytes() == BODY
    assert [path for path, _ in tls_site.requests][1:] == ["/elsewhere", "/there"]


@pytest.mark.parametrize("hops", [0, 2])
@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_https_never_goes_to_http(tls_site, site, folder, scheme, hops):
    away = f"{scheme}://127.0.0.1:{site.server_port}/x"
    tls_site.script = [redirect("/again")] * hops + [redirect(away)]
    assert "which is refused as it is no https" in refused(tls_site.file(), folder)
    assert len(tls_site.requests) == hops + 1
    assert site.requests == []


def test_an_unknown_certificate_is_refused(tls_site, folder, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "CERTIFICATE_VERIFY_FAILED" in refused(tls_site.file(), folder)
    assert tls_site.requests == []


def test_a_web_page_in_place_of_the_file_is_refused(site, folder):
    site.script = [status(200, Content_Type="text/html; charset=utf-8")]
    assert "a web page came in place of the file" in refused(site.file(None, None), folder)
    assert len(site.requests) == 1
    assert files(folder) == []


# What the learner sees


def test_progress_is_told_in_bytes(site, folder, watch_progress):
    told = []
    site.script = [cut(100_000)]
    watch_progress(file_module, lambda *numbers: told.append(numbers))
    download_file(site.file(), folder)
    assert told == sorted(told)
    assert told[-1] == (SIZE, SIZE)
    assert 100_000 in [done for done, _ in told]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_bar_is_drawn_on_a_terminal_only(site, folder, capfd, monkeypatch, is_terminal):
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "120")
    download_file(site.file(), folder)
    out, err = capfd.readouterr()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
    assert (out, "set.npz" in text, "300.0/300.0 kB" in text) == ("", is_terminal, is_terminal)
    assert is_terminal or not err


# The disk


def test_a_disk_without_room_is_known_before_the_first_byte(site, folder, monkeypatch):
    free = disk.RESERVE + SIZE - 1
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert "135 MB are free and 135 MB are needed. Make room" in refused(site.file(), folder)
    assert not (folder / ".set.npz.part").exists()
    (folder / ".set.npz.part").write_bytes(BODY[:1])  # only the rest needs room
    assert download_file(site.file(), folder).read_bytes() == BODY


@pytest.mark.process
def test_a_disk_that_fills_up_is_named_and_the_part_is_kept(site, folder, mounted, monkeypatch):
    monkeypatch.setattr(disk, "RESERVE", 0)
    with mounted(folder, "size=128k"):
        site.script = [whole]
        message = refused(site.file(MD5, None), folder)
        assert f"{folder}: 0 MB are free and 0 MB are needed. Make room" in message
        have = (folder / ".set.npz.part").stat().st_size
        assert 0 < have <= 128 * 1024
        subprocess.run(["mount", "-o", "remount,size=2m", str(folder)], check=True)
        assert download_file(site.file(MD5, None), folder).read_bytes() == BODY
        assert site.ranges[-1] == f"bytes={have}-"


@pytest.mark.parametrize("below", ["", "deeper/"])
def test_a_folder_that_cannot_be_made_is_named(site, tmp_path, below):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file.*FEDTUTOR_DATA"):
        download_file(site.file(), tmp_path / "file" / f"{below}set")
    assert site.requests == []


@pytest.mark.process
def test_a_read_only_disk_serves_what_it_has_and_no_more(site, folder, mounted):
    with mounted(folder, "size=2m"):
        (folder / "set.npz").write_bytes(BODY)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert download_file(site.file(), folder).read_bytes() == BODY
        with pytest.raises(DataError, match=r"Read-only file system.*FEDTUTOR_DATA"):
            download_file(RemoteFile("other.npz", site.url), folder)
    assert site.requests == []


# Others who want the same, and ends that nobody planned


def test_of_eight_callers_one_downloads_and_all_have_the_file(site, folder):
    site.script = [slow] * 8
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(download_file, [site.file()] * 8, [folder] * 8))
    assert paths == [folder / "set.npz"] * 8
    assert len(site.requests) == 1
    assert (folder / "set.npz").read_bytes() == BODY
    assert files(folder) == ["set.npz"]


def test_ctrl_c_leaves_the_part_and_nothing_else(site, folder, watch_progress):
    def interrupt(done, total):
        if 150_000 < done < SIZE:
            raise KeyboardInterrupt

    watch_progress(file_module, interrupt)
    with pytest.raises(KeyboardInterrupt):
        download_file(site.file(), folder)
    assert files(folder) == [".set.npz.part"]
    have = (folder / ".set.npz.part").stat().st_size
    watch_progress(file_module, print)
    assert download_file(site.file(), folder).read_bytes() == BODY
    assert site.ranges == [None, f"bytes={have}-"]


def test_ctrl_c_during_the_check_does_not_throw_4_gb_away(site, folder, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download_file(site.file(), folder)
    assert files(folder) == [".set.npz.part"]
    assert download_file(site.file(), folder).read_bytes() == BODY
    assert len(site.requests) == 1


# The mirror of a class


@pytest.fixture
def mirror(tmp_path):
    (tmp_path / "mirror" / "set").mkdir(parents=True)
    (tmp_path / "mirror" / "set" / "set.npz").write_bytes(BODY)
    return tmp_path / "mirror"


@pytest.mark.parametrize("hash", [MD5, None])
def test_a_folder_can_be_the_mirror(site, folder, mirror, monkeypatch, watch_progress, hash):
    monkeypatch.setenv("FEDTUTOR_MIRROR", str(mirror))
    folder.mkdir(parents=True)
    (folder / ".set.npz.part").write_bytes(b"of a download")
    told = []
    watch_progress(file_module, lambda *numbers: told.append(numbers))
    path = download_file(site.file(hash), folder)
    assert path.read_bytes() == BODY
    assert told[-1] == (SIZE, SIZE)
    assert site.requests == []
    assert files(folder) == ["set.npz"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_address_can_be_the_mirror(site, tmp_path, slash):
    file = RemoteFile("a?b.npz", "https://example.invalid/x", MD5, SIZE)
    path = download_file(file, tmp_path / "set #1", mirror=f"{site.url}/class{slash}")
    assert path.read_bytes() == BODY
    assert [path for path, _ in site.requests] == ["/class/set%20%231/a%3Fb.npz"]


def test_an_argument_goes_before_the_environment(site, folder, mirror, monkeypatch):
    monkeypatch.setenv("FEDTUTOR_MIRROR", "/nowhere")
    download_file(site.file(), folder, mirror=mirror)
    (folder / "set.npz").unlink()
    download_file(site.file(), folder, mirror="")
    assert len(site.requests) == 1


def test_a_mirror_is_not_believed(site, folder, mirror):
    (mirror / "set" / "set.npz").write_bytes(OTHER)
    message = refused(site.file(), folder, mirror=mirror)
    assert str(mirror / "set" / "set.npz") in message
    assert MD5 in message
    assert files(folder) == []


def test_what_a_mirror_lacks_is_not_fetched_elsewhere(site, folder, mirror):
    (mirror / "set" / "set.npz").unlink()
    message = refused(site.file(), folder, mirror=mirror)
    assert f"{mirror}/set/set.npz: No such file" in message
    assert f"save {site.file().url} as" in message
    assert "or put set/set.npz into the mirror, or unset FEDTUTOR_MIRROR" in message
    assert site.requests == []
