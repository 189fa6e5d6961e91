"""Text as editors save it, and files that hold none."""

import os

import pytest

from numprune_export.core import text_file
from numprune_export.core.errors import InputError

TEXT = "Déjà vu,\n42 €\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-16-be-mark", "utf-32"]
)
def test_every_marked_encoding_gives_the_same_text(tmp_path, encoding):
    path, marked = tmp_path / "a.txt", encoding.endswith("-mark")
    content = f"\ufeff{TEXT}" if marked else TEXT
    path.write_bytes(content.encode(encoding.removesuffix("-mark")))
    assert text_file.read(path) == TEXT


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_are_one(tmp_path, end):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.replace("\n", end).encode())
    assert text_file.read(path) == TEXT


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("a.txt", "one\ncafé".encode("cp1252"), "line 2 of .*not UTF-8 text: byte 0xe9", "iconv"),
        ("a.txt", b"\xff\xfea", "not UTF-16 text", "iconv"),
        ("a.txt", "the people".encode("utf-16-le"), "UTF-16 without a byte order mark", "UTF-16"),
        ("a.txt", bytes(64), "binary", ""),
        (
            "a.txt",
            b"version https://git-lfs.github.com/spec/v1\noid",
            "git-LFS pointer",
            "lfs pull",
        ),
        ("a.parquet", b"x", "table in a binary format", "dataset"),
        ("a.txt", b"PAR1\x15", "table in a binary format", "dataset"),
        ("a.jsonl.gz", b"\x1f\x8b\x08", "compressed", "unpack"),
        ("a.docx", b"PK\x03\x04", "office", ".txt"),
        ("a.txt", b"%PDF-1.7", "office", ".txt"),
    ],
)
def test_what_is_no_text_is_named_with_a_way_out(tmp_path, name, content, message, hint):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        text_file.read(path)
    assert hint in refusal.value.hint


def test_what_may_never_end_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "pipe"), (tmp_path, "folder"), ("/dev/zero", "device")):
        with pytest.raises(InputError, match=what):
            text_file.read(type(tmp_path)(path))


def test_a_missing_file_and_an_empty_one(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        text_file.read(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("\ufeff \n", encoding="utf-8")
    assert text_file.read(tmp_path / "a.txt") == " \n"
    with pytest.raises(InputError, match="holds no text"):
        text_file.read_filled(tmp_path / "a.txt")
