"""Downloads from a server of our own on this machine: right, wrong, empty, absent, cut."""

from __future__ import annotations

import hashlib
import http.server
import os
import socket
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from aplysia.data.archive import unpack
from aplysia.data.base import AbstractDataset, RemoteFile
from aplysia.data.remote import FileState, check_remote, fetch_remote
from aplysia.errors import DataError

GOOD = b"the right bytes" * 1000
HASH = f"sha256:{hashlib.sha256(GOOD).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        body = {"/good": GOOD, "/wrong": b"another file", "/empty": b"", "/cut": GOOD}.get(self.path)
        self.send_response(404 if body is None else 200)
        body = body or b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:100] if self.path == "/cut" else body)

    def log_message(self, format, *args):
        """Silent."""


@pytest.fixture
def server():
    Handler.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def closed():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_good_download(server, tmp_path, capsys):
    file = RemoteFile("set/file.bin", (f"{server}/good",), HASH, len(GOOD))
    assert fetch_remote(tmp_path, file, "toy").read_bytes() == GOOD
    assert everything(tmp_path) == ["set/file.bin"]
    assert "toy: downloading file.bin (0.0 MB) from 127.0.0.1" in capsys.readouterr().err
    assert check_remote(tmp_path, file).state is FileState.OK
    fetch_remote(tmp_path, file, "toy")
    assert Handler.asked == ["/good"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("wrong", "12 bytes with another checksum"),
        ("empty", "an empty file"),
        ("absent", "HTTP 404"),
        ("cut", "(no download from|100 bytes with another checksum)"),
    ],
)
def test_bad_download_leaves_nothing(server, tmp_path, path, words):
    file = RemoteFile("set/file.bin", (f"{server}/{path}",), HASH)
    with pytest.raises(DataError, match=words) as raised:
        fetch_remote(tmp_path, file, "toy")
    assert everything(tmp_path) == []
    assert not [name for name in os.listdir(tmp_path / "set") if name.startswith(".download")]
    assert "aplysia data fetch toy" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_closed_port(closed, tmp_path):
    file = RemoteFile("set/file.bin", (f"{closed}/good",), HASH)
    with pytest.raises(DataError, match=r"no download from 127\.0\.0\.1:\d+ \(ConnectionError\)"):
        fetch_remote(tmp_path, file, "toy")
    assert everything(tmp_path) == []


def test_mirrors_are_tried_in_order(server, closed, tmp_path):
    urls = (f"{closed}/good", f"{server}/wrong", f"{server}/good", f"{server}/absent")
    assert fetch_remote(tmp_path, RemoteFile("file.bin", urls, HASH), "toy").read_bytes() == GOOD
    assert Handler.asked == ["/wrong", "/good"]
    with pytest.raises(DataError, match=r"no download from .* and 12 bytes .* and HTTP 404"):
        fetch_remote(tmp_path, RemoteFile("b.bin", (urls[0], urls[1], urls[3]), HASH), "toy")


def test_bad_download_does_not_touch_the_old_file(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"old")
    with pytest.raises(DataError):
        fetch_remote(tmp_path, RemoteFile("file.bin", (f"{server}/wrong",), HASH), "toy")
    assert (tmp_path / "file.bin").read_bytes() == b"old"
    fetch_remote(tmp_path, RemoteFile("file.bin", (f"{server}/good",), HASH), "toy")
    assert (tmp_path / "file.bin").read_bytes() == GOOD


def test_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "set").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="a folder that can be written"):
        fetch_remote(tmp_path, RemoteFile("set/file.bin", (f"{server}/good",), HASH), "toy")


@dataclass(frozen=True, kw_only=True)
class Toy(AbstractDataset):
    name: ClassVar[str] = "toy"

    def load(self, root, *, steps=1, download=True):
        self.require(root, (root / "set" / "inside").is_dir, f"a folder {root / 'set'}", download)

    def check(self, root):
        return [check_remote(root, file) for file in self.files]


def zipped(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as pack:
        for name, data in files.items():
            pack.writestr(name, data)
    return path.read_bytes()


def test_fetch_unpacks_and_load_fetches(server, tmp_path, monkeypatch):
    data = zipped(tmp_path / "made.zip", {"inside/a": b"1", "inside/b/c": b"2", "other": b"3"})
    monkeypatch.setitem(globals(), "GOOD", data)
    known = f"md5:{hashlib.md5(data).hexdigest()}"
    root = tmp_path / "root"
    file = RemoteFile("set/pack.zip", (f"{server}/good",), known, unpacks=("inside",))
    monkeypatch.setattr(Toy, "files", (file,))
    with pytest.raises(DataError, match="data set 'toy'"):
        Toy().load(root, download=False)
    assert Handler.asked == []
    Toy().load(root)
    assert everything(root) == ["set/inside/a", "set/inside/b/c", "set/pack.zip"]
    assert Toy().fetch(root) == [root / "set" / "pack.zip"]
    assert Handler.asked == ["/good"]


def test_load_without_network_says_so(closed, tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "files", (RemoteFile("set/pack.zip", (f"{closed}/x",), HASH),))
    with pytest.raises(DataError, match="check the network"):
        Toy().load(tmp_path)
    assert everything(tmp_path) == []


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "c:out"])
def test_zip_that_climbs_out_is_refused(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    zipped(folder / "pack.zip", {name: b"x"})
    with pytest.raises(DataError, match="names inside"):
        unpack(folder / "pack.zip", ("out",), "toy")
    assert everything(tmp_path) == ["in/pack.zip"]


def test_zip_with_something_else_or_damaged(tmp_path):
    data = zipped(tmp_path / "pack.zip", {"a": b"x" * 100})
    with pytest.raises(DataError, match="an archive with inside"):
        unpack(tmp_path / "pack.zip", ("inside",), "toy")
    (tmp_path / "pack.zip").write_bytes(data[:40])
    with pytest.raises(DataError, match="damaged"):
        unpack(tmp_path / "pack.zip", ("a",), "toy")
    assert everything(tmp_path) == ["pack.zip"]
