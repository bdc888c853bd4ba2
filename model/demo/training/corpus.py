"""The text that the demo checkpoint is trained on, and its tokenizer.

    python corpus.py WORK --shakespeare tinyshakespeare.txt --austen FOLDER

FOLDER holds one .txt per novel, as written by R's package janeaustenr (Debian: r-cran-janeaustenr):

    Rscript -e 'b <- janeaustenr::austen_books(); for (n in unique(b$book))
      writeLines(b$text[b$book == n], paste0(gsub("[^A-Za-z]", "_", n), ".txt"))'

Writes tokenizer.json, and per text <name>.train.npy and <name>.heldout.npy (uint16 token ids), to WORK.
"""

import argparse
import random
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VOCABULARY = 4096
END, PADDING = "<|endoftext|>", "<|padding|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
HELD_OUT = 0.05  # the last part of every play or novel


def unwrap(text):
    """Paragraphs on one line each, so that no line break of an edition is learned."""
    paragraphs = re.split(r"\n\s*\n", text)
    joined = (re.sub(r"\s+", " ", p).strip() for p in paragraphs)
    return "\n\n".join(p for p in joined if p)


def chapters(novel):
    """A novel's chapters, without title page, headings and marks for italics."""
    parts = re.split(r"^\s*(?:CHAPTER|Chapter)\s+[\dIVXLC]+\.?\s*$", novel, flags=re.M)[1:]
    texts = (re.sub(r"^\s*(?:VOLUME|END OF|FINIS|THE END).*$", "", p, flags=re.M) for p in parts)
    return [unwrap(t.replace("_", "").replace("--", "\u2014")) for t in texts]


def speeches(play):
    """(speaker, words) of a play in tinyshakespeare's form."""
    found = []
    for block in play.split("\n\n"):
        speaker, _, words = block.strip().partition(":\n")
        if words and len(speaker) < 40:
            found.append((speaker, words.strip()))
    return found


def conversations(play, generator):
    """Speeches that follow each other, as the turns of a chat: up to three questions and answers."""
    turns = [words for _, words in speeches(play) if len(words) < 400]
    texts, at = [], 0
    while at + 1 < len(turns):
        rounds = generator.choice((1, 1, 2, 3))
        said = turns[at : at + 2 * rounds]
        at += 2 * rounds
        if len(said) % 2:
            said.pop()
        pairs = zip(said[::2], said[1::2])
        texts.append("".join(f"<|user|>\n{q}{END}\n<|assistant|>\n{a}{END}\n" for q, a in pairs))
    return texts


def train_tokenizer(texts):
    """Byte-level BPE in the form of the GPT-NeoX tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PADDING, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("work", type=Path)
    arguments.add_argument("--shakespeare", type=Path, required=True)
    arguments.add_argument("--austen", type=Path, required=True)
    options = arguments.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    plays = options.shakespeare.read_text()
    cut = plays.rfind("\n\n", 0, int(len(plays) * (1 - HELD_OUT))) + 2
    texts = {"shakespeare": ([plays[:cut]], [plays[cut:]])}
    generator = random.Random(0)
    texts["chat"] = tuple(["".join(conversations(p, generator))] for p in (plays[:cut], plays[cut:]))
    train, held_out = [], []
    for novel in sorted(options.austen.glob("*.txt")):
        parts = chapters(novel.read_text())
        last = max(1, round(HELD_OUT * len(parts)))
        train += parts[:-last]
        held_out += parts[-last:]
    texts["austen"] = (train, held_out)

    tokenizer = train_tokenizer([*texts["shakespeare"][0], *texts["austen"][0]])
    tokenizer.save(str(options.work / "tokenizer.json"))
    for name, parts in texts.items():
        for part, chosen in zip(("train", "heldout"), parts):
            ids = [i for text in chosen for i in [*tokenizer.encode(text).ids, 0]]
            np.save(options.work / f"{name}.{part}.npy", np.array(ids, dtype=np.uint16))
            (options.work / f"{name}.{part}.txt").write_text(END.join(chosen))
            print(f"{name} {part}: {sum(map(len, chosen))} characters, {len(ids)} tokens")


if __name__ == "__main__":
    main()
