"""One writer at a time in a folder."""

import errno
import fcntl
import json
import os
import socket

import pytest

from rarts_mm.locks import LOCK, FolderInUseError, locked, refuse_if_locked
from tests.holding import kill, locking


def test_a_folder_is_refused_while_another_process_lives_and_no_longer(tmp_path):
    folder = tmp_path / "run"
    with locking(folder) as owner:
        for attempt in (locked(folder).__enter__, lambda: refuse_if_locked(folder)):
            with pytest.raises(FolderInUseError) as error:
                attempt()
            text = str(error.value)
            assert (
                f"{folder} is in use by process {owner.pid} on host {socket.gethostname()}" in text
            )
            assert "\n" not in text
        content = (folder / LOCK).read_bytes()
        kill(owner)
        # What it left behind is not taken for a lock.
        assert (folder / LOCK).read_bytes() == content
        refuse_if_locked(folder)
        with locked(folder):
            assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert not list(folder.iterdir())


def test_a_forked_process_neither_has_the_lock_nor_gives_it_back(tmp_path):
    """Data workers are forked; the trainer may be killed while they live."""
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            refused = False
            try:
                fcntl.lockf(os.open(tmp_path / LOCK, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                refused = True
            os._exit(0 if refused else 1)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(FolderInUseError, match=f"process {os.getpid()} "), locked(tmp_path):
            pass
        refuse_if_locked(tmp_path)
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_folders_that_were_made_for_nothing_go(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "a" / "b"):
        raise KeyError
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "a"):
        (tmp_path / "a" / "result").touch()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["result"]


@pytest.mark.parametrize(
    ("change", "free"),
    [
        ({}, False),
        ({"host": "elsewhere"}, False),
        # Another process has got the number of one that was killed.
        ({"started": 1}, True),
        ({"pid": 4_000_000_000}, True),
    ],
)
def test_where_the_file_system_has_no_locks_the_file_decides(tmp_path, monkeypatch, change, free):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    with locking(tmp_path):
        own = json.loads((tmp_path / LOCK).read_text())
        content = json.dumps(own | change)
        (tmp_path / LOCK).write_text(content)
        monkeypatch.setattr(fcntl, "lockf", unsupported)
        if free:
            with locked(tmp_path):
                assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
            return
        with pytest.raises(FolderInUseError, match=r"if it no longer runs, remove .*\.lock"):
            locked(tmp_path).__enter__()
        assert (tmp_path / LOCK).read_text() == content
