"""Runs of assisted generation: drafts of the prompt or of another model, which change nothing."""

import itertools

from generation_file import GenerationFile, Models, Prompts
from generation_runs import FULL_MODELS, NO_EOS, alone, latest
from model_table import CAUSAL_MODELS

DRAFTING = ("prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_model")
# Which model drafts for which.
ASSISTANTS = {"base": "qkv_bias", "qkv_bias": "base", "parallel_qk_norm": "parallel_qk_norm"}


def assisted(models: Models) -> GenerationFile:
    """Assisted generation."""
    file = GenerationFile("assisted", models)
    for model in CAUSAL_MODELS:
        file.add(
            model, "lookup, 64 tokens", lambda p: lookup(p, max_new_tokens=64), plain=DRAFTING
        )
    for model in FULL_MODELS:
        for count, size in itertools.product([2, 3, 10], [1, 2, 3]):
            options = dict(prompt_lookup_num_tokens=count, max_matching_ngram_size=size)
            name = f"lookup of {count} by {size}"
            file.add(model, name, lambda p, o=options: lookup(p, **o), plain=DRAFTING)
        for name, make in lookups().items():
            file.add(model, f"lookup, {name}", make, plain=DRAFTING)
        file.add(
            model,
            "lookup, scores",
            lambda p: lookup(p, repetition_penalty=1.1),
            keep=dict(scores={0: [0], 9: [0]}, logits={5: [0]}, transitions=True),
            plain=DRAFTING,
        )
        for name, make in drafts(ASSISTANTS[model]).items():
            file.add(model, name, make, plain=DRAFTING)
    return file


def twice(p: Prompts) -> list[int]:
    """A prompt that repeats itself."""
    return [*p.ids, *p.ids, *p.ids[:3]]


def lookup(p: Prompts, **options) -> dict:
    start = dict(input_ids=[twice(p)], max_new_tokens=24, prompt_lookup_num_tokens=3)
    return start | NO_EOS | options


def lookups() -> dict:
    """Prompt lookup beside other options, by name."""
    return {
        "eos": lambda p: lookup(p, eos_token_id=latest(p.next(twice(p)), 2)),
        "eos in the prompt": lambda p: lookup(
            p, input_ids=[[*p.ids, p.next()[5], *p.ids]], eos_token_id=p.next()[5]
        ),
        "max_length": lambda p: lookup(p, max_length=23, max_new_tokens=None),
        "max_new_tokens 1": lambda p: lookup(p, max_new_tokens=1),
        "prompt of one token": lambda p: lookup(p, input_ids=[p.ids[:1]]),
        "repetition_penalty": lambda p: lookup(p, repetition_penalty=1.2),
        "no_repeat_ngram_size": lambda p: lookup(p, no_repeat_ngram_size=2),
        "bad_words_ids": lambda p: lookup(p, bad_words_ids=[[p.next(twice(p))[2]]]),
        "suppress_tokens": lambda p: lookup(p, suppress_tokens=[p.ids[3], p.ids[4]]),
        "sequence_bias": lambda p: lookup(p, sequence_bias=[[[id], 1.5] for id in p.ids]),
        "min_new_tokens": lambda p: lookup(
            p, eos_token_id=p.next(twice(p))[3], min_new_tokens=7
        ),
        "forced_eos_token_id": lambda p: lookup(p, eos_token_id=3, forced_eos_token_id=3),
        "exponential decay": lambda p: lookup(
            p, eos_token_id=1, exponential_decay_length_penalty=[4, 1.3]
        ),
        "padding": lambda p: lookup(
            p,
            input_ids=[[1, 1, *twice(p)]],
            attention_mask=[[0, 0, *(1 for _ in twice(p))]],
        ),
    }


def drafts(assistant: str) -> dict:
    """Another model's drafts beside other options, by name."""
    options = {
        "64 tokens": lambda p: dict(max_new_tokens=64, **NO_EOS),
        "eos": lambda p: dict(eos_token_id=latest(p.next(), 2)),
        "penalties": lambda p: dict(repetition_penalty=1.2, no_repeat_ngram_size=3, **NO_EOS),
        "min_new_tokens": lambda p: dict(eos_token_id=latest(p.next()[:5], 1), min_new_tokens=9),
    }
    return {
        f"drafts of {assistant}, {name}": lambda p, o=of: (
            alone(p, 24, assistant_model=assistant) | o(p)
        )
        for name, of in options.items()
    }
