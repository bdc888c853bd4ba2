"""Writes prompt_lookup.json: what Hugging Face transformers drafts from rows themselves.

Run with torch 2.13.0 and transformers 5.18.0, which need no download for this:

    python make_prompt_lookup.py [rows]

Each row is one of few tokens, so that much of it comes up again, with settings that may forbid some of
them: [ids, most tokens, longest n-gram, eos tokens, vocabulary, settings, draft].
"""

import json
import pathlib
import random
import sys

import torch
import transformers
from transformers import (
    InfNanRemoveLogitsProcessor,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

torch.set_num_threads(1)
ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 240
random_ = random.Random(7)


def tokens(vocabulary, count):
    return [random_.randrange(vocabulary) for _ in range(count)]


def settings_of(vocabulary, length, eos):
    """Settings as a generation config has them, and their processors in order."""
    settings, processors = {}, []

    def add(key, value, processor):
        if random_.random() < 0.4:
            settings[key] = value
            processors.append(processor)

    ngram = random_.randint(1, 4)
    add("no_repeat_ngram_size", ngram, NoRepeatNGramLogitsProcessor(ngram))
    words = [tokens(vocabulary, random_.randint(1, 3)) for _ in range(2)]
    ends = torch.tensor(eos) if eos else None
    add("bad_words_ids", words, NoBadWordsLogitsProcessor(words, ends))
    if eos:
        shortest = length + random_.randint(0, 6)
        add("min_length", shortest, MinLengthLogitsProcessor(shortest, eos))
    add("remove_invalid_values", True, InfNanRemoveLogitsProcessor())
    suppressed = tokens(vocabulary, 1)
    add("suppress_tokens", suppressed, SuppressTokensLogitsProcessor(suppressed))
    return settings, processors


def row():
    vocabulary = random_.choice([2, 3, 5, 9, 30])
    length = random_.choice([1, 2, 3, 5, 8, 13, 21, 34])
    ids = tokens(vocabulary, length)
    most, ngram = random_.randint(1, 12), random_.randint(1, 5)
    eos = random_.sample(range(vocabulary), k=random_.choice([0, 0, 1, 1, 2]))
    settings, processors = {}, []
    if random_.random() < 0.5:
        settings, processors = settings_of(vocabulary, length, eos)
    generator = PromptLookupCandidateGenerator(
        eos_token_id=torch.tensor(eos) if eos else None,
        num_output_tokens=most,
        max_matching_ngram_size=ngram,
        max_length=length + 100,
        logits_processor=LogitsProcessorList(processors) if processors else None,
        vocab_size=vocabulary,
    )
    candidates, _ = generator.get_candidates(torch.tensor([ids]))
    draft = candidates[0, length:].tolist()
    return [ids, most, ngram, eos, vocabulary, settings, draft]


rows = [json.dumps(row(), separators=(",", ":")) for _ in range(ROWS)]
versions = {"torch": torch.__version__, "transformers": transformers.__version__}
text = '{"versions":%s,\n"rows":[\n%s\n]}\n' % (json.dumps(versions), ",\n".join(rows))
pathlib.Path(__file__).with_name("prompt_lookup.json").write_text(text)
