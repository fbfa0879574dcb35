"""Training rows: passages of the text, half of them plain and half of them as chats.

A row is a list of token ids of fixed length: whole examples one after the other, each starting
with ``[gMASK]<sop>``, the last one cut off. A row depends on nothing but its seed, so training
resumes at any step without any state of the data.
"""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import Tokenizer

from demo.fetch_text import read_documents

PREFIX = "[gMASK]<sop>"
CHAT_SHARE = 0.5
SYSTEM_SHARE = 0.1
TWO_TURN_SHARE = 0.3
CHARACTERS_PER_TOKEN = 3.5  # of the English text; keeps a passage within a row


def render_chat(turns: list[str], system: str, rng: random.Random) -> str:
    """User and assistant turns in the chat template's form, ended by ``<|user|>``."""
    text = PREFIX
    if rng.random() < SYSTEM_SHARE:
        text += f"<|system|>\n{system}"
    for index, turn in enumerate(turns):
        text += f"<|{'assistant' if index % 2 else 'user'}|>\n{turn}"
    return text + "<|user|>"


def bible_example(chapter: list[str], row_length: int, rng: random.Random) -> str:
    """A random run of verses of the chapter, in a random form."""
    heading, verses = chapter[0], chapter[1:]
    start = rng.choice([0, rng.randrange(len(verses)), rng.randrange(len(verses))])
    budget = rng.uniform(0.2, 0.9) * row_length * CHARACTERS_PER_TOKEN
    stop = start + 1
    while stop < len(verses) and sum(map(len, verses[start : stop + 1])) < budget:
        stop += 1
    passage = verses[start:stop]
    if rng.random() >= CHAT_SHARE:
        title = [heading] if start == 0 else []
        return PREFIX + "\n".join(title + passage) + "<|endoftext|>"

    system = "You recite the King James Bible."
    reference = f"{heading}:{start + 1}-{stop}"
    openings = [reference, f"Read {reference}.", f"Recite {heading} from verse {start + 1}."]
    if len(passage) > 1:
        openings += [f"Continue: {passage[0]}", passage[0]] * 2
    opening = rng.choice(openings)
    answer = passage[1:] if passage[0] in opening else passage
    turns = [opening, "\n".join(answer)]
    if len(answer) > 1 and rng.random() < TWO_TURN_SHARE:
        middle = rng.randrange(1, len(answer))
        turns[1:] = ["\n".join(answer[:middle]), "Go on.", "\n".join(answer[middle:])]
    return render_chat(turns, system, rng)


def poem_example(poem: list[str], rng: random.Random) -> str:
    """The poem, in a random form."""
    heading, lines = poem[0], poem[1:]
    if rng.random() >= CHAT_SHARE:
        title = [heading] if rng.random() < 0.8 else []
        return PREFIX + "\n".join(title + lines) + "<|endoftext|>"
    title_mark, _, author = heading.partition("》")
    name = title_mark.removeprefix("《")
    opening = rng.choice(
        [
            f"写一首《{name}》。",
            f"以{author}的笔法写一首《{name}》。",
            f"Write a poem titled {name} by {author}.",
            f"续写：{lines[0]}",
            lines[0],
        ]
    )
    answer = lines[1:] if lines[0] in opening else lines
    return render_chat([opening, "\n".join(answer)], "你是一位诗人。", rng)


class Examples:
    """The two training texts; draws rows of token ids from them."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.chapters = read_documents(folder / "kjv.txt")
        self.poems = read_documents(folder / "poems.txt")
        self.chapter_sizes = [len(chapter) - 1 for chapter in self.chapters]

    def row(self, seed: str, length: int) -> list[int]:
        """One row of ``length`` ids, of one language; the seed decides everything."""
        rng = random.Random(seed)
        is_bible = rng.random() < 0.5
        ids: list[int] = []
        while len(ids) < length:
            if is_bible:
                (chapter,) = rng.choices(self.chapters, self.chapter_sizes)
                text = bible_example(chapter, length, rng)
            else:
                text = poem_example(rng.choice(self.poems), rng)
            ids += self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids[:length]
