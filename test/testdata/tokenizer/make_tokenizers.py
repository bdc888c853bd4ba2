"""Writes two small tokenizers, and what the Rust library of Hugging Face makes of texts and ids with them.

Run with tokenizers 0.23.2:

    python make_tokenizers.py && deno fmt

Both are trained on the guides of this repository. neox.json is built as the tokenizer of StableLM 3B is,
arcade.json as that of StableLM 2. golden.json has for each: texts with their ids, where special tokens are
found in the text and where they are letters, and lists of ids with their text. Training on guides that have
changed gives other merges, and new ids with them.
"""

import json
import pathlib
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
DOCS = HERE.parents[2] / "docs"
CORPUS = [p.read_text() for p in sorted(DOCS.rglob("*.md"))]
CORPUS.append("日本語テキスト 日本語 مرحبا 🙂🙂 naïve façade été Ünïcödé привет мир\n" * 40)
ARCADE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(pre_tokenizer, size, specials):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def neox():
    specials = ["<|endoftext|>", "<|padding|>"]
    tokenizer = train(pre_tokenizers.ByteLevel(add_prefix_space=False), 1256, specials)
    runs = [AddedToken(" " * n, normalized=True, special=False) for n in range(24, 1, -1)]
    tokenizer.add_tokens(runs)
    tokenizer.add_tokens([AddedToken("é→é", normalized=True, special=False)])
    tokenizer.add_tokens([AddedToken("<raw é>", normalized=False, special=False)])
    return tokenizer


def arcade():
    split = pre_tokenizers.Split(Regex(ARCADE), behavior="removed", invert=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = train(pre_tokenizers.Sequence([split, byte_level]), 1256, [])
    names = ["<|endoftext|>", "<|fim_prefix|>", "<|im_start|>", "<|im_end|>", "<|reg0|>"]
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    return tokenizer


PIECES = [
    "", " ", "  ", "   ", "\n", "\r\n", "\t", "\u00a0", "\u0085", "\ufeff", "\u200b", "\u200d", "\u2028",
    "\u3000", "\u180e", "\x00", "\x1c", "a", "The", " kernel", "don't", "I'LL", "'ſ", "'S", "12345", " 678",
    "½", "x²", "٣٤", "Ⅷ", "é", "e\u0301", "A\u030a", "\u212b", "ﬁ", "ſ", "İ", "ß", "日本語", "テキスト",
    "مرحبا", "नमस्ते", "한국어", "\u1112\u1161\u11ab", "🙂", "👩‍👩‍👧‍👦", "🏳️‍🌈", "𝔘𝔫𝔦", "\U0010ffff",
    "<|endoftext|>", "<|padding|>", "<|im_start|>", "<|im_end|>", "<|end", "oftext|>", "<|user|>",
    "e\u0301→é", "<raw é>", "<raw e\u0301>", "...", "!?", "—", "’ve", "\\", "\"", "{}", "://", "\u0301",
    " " * 24, " " * 25, " " * 49,
]


def texts():
    rng = random.Random(1)
    yield from PIECES
    for _ in range(110):
        yield "".join(rng.choice(PIECES) for _ in range(rng.randint(2, 7)))
    yield from ("a" + " " * n + "b" for n in range(1, 60, 4))
    yield from (" " * n for n in (2, 23, 24, 30, 48, 60))
    yield from ("\n" * n + "x" for n in (1, 2, 5))
    yield from ("def f(x):\n        return x  # 12\n\n\n", "a" * 300, "ab" * 150, "\u0301" * 40, "🙂" * 30)
    yield from (" \ufeffhi", "\ufeff hi", "a\u0085 b", " \u0085\n", "I’ve been", "x \u200b y", "1 2  3   4")
    yield from CORPUS[0].split("\n\n")[:12]


def spelled(ids):
    return " ".join(map(str, ids))


def golden(tokenizer, seed):
    encodings = []
    for text in dict.fromkeys(texts()):
        tokenizer.encode_special_tokens = False
        parsed = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text).ids
        assert tokenizer.decode(plain) == unicodedata.normalize("NFC", text), repr(text)
        rows = [plain] if parsed == plain else [plain, parsed]
        encodings.append([text, *map(spelled, rows)])
    rng = random.Random(seed)
    size = tokenizer.get_vocab_size()
    decodings = []
    for _ in range(80):
        ids = [rng.choice([rng.randrange(size), rng.randrange(260), size - 1 - rng.randrange(30), size + 9])
               for _ in range(rng.randint(0, 9))]
        kept = tokenizer.decode(ids, skip_special_tokens=False)
        skipped = tokenizer.decode(ids, skip_special_tokens=True)
        decodings.append([spelled(ids), kept] if kept == skipped else [spelled(ids), kept, skipped])
    return {"encodings": encodings, "decodings": decodings}


def lines(value):
    if isinstance(value, dict):
        return "{" + ",\n".join(f"{json.dumps(k)}:{lines(v)}" for k, v in value.items()) + "}"
    rows = (json.dumps(row, separators=(",", ":")) for row in value)
    return "[\n" + ",\n".join(rows) + "]"


result = {}
for seed, (name, make) in enumerate([("neox", neox), ("arcade", arcade)]):
    tokenizer = make()
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(text + "\n")
    result[name] = golden(tokenizer, seed)
(HERE / "golden.json").write_text(lines(result) + "\n")
