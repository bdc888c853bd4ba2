"""Runs of beam search."""

import itertools

from generation_file import GenerationFile, Models, Prompts
from generation_option_runs import CHANGING, together
from generation_runs import FULL_MODELS, NO_EOS, alone, latest, rows_that_end
from model_table import CAUSAL_MODELS, ROPE_MODELS


def beams(models: Models) -> GenerationFile:
    """Beam search."""
    file = GenerationFile("beams", models)
    for model in CAUSAL_MODELS:
        file.add(
            model,
            "3 beams, 64 tokens",
            lambda p: alone(p, 64, num_beams=3, num_return_sequences=3, **NO_EOS),
        )
        file.add(
            model,
            "2 beams, padded batch",
            lambda p: rows_that_end(p, pad=1, num_beams=2, num_return_sequences=2),
            ends=True,
        )
    for model in FULL_MODELS:
        grid = itertools.product([0.0, 1.0, 2.0, -1.0], [False, True, "never"])
        for index, (penalty, stopping) in enumerate(grid):
            count = 2 + (index + index // 3) % 3
            # Where longer rows do not score higher, hardly anything depends on when to stop.
            stops_apart = stopping is not False and penalty > 0
            effect = "early_stopping" if stops_apart else "length_penalty"
            file.add(
                model,
                f"{count} beams, length_penalty {penalty}, early_stopping {stopping}",
                lambda p, i=index, c=count, l=penalty, s=stopping: beam_grid(p, i, c, l, s),
                effect_of=(effect,) if stops_apart or penalty != 1 else (),
            )
        beam_details(file, model)
    for index, model in enumerate((*CAUSAL_MODELS, *ROPE_MODELS)):
        file.add(
            model,
            f"random {index}",
            lambda p, i=index: together(p, i, beams=2 + i % 3),
            effect_of=CHANGING,
        )
    return file


def beam_grid(p: Prompts, index: int, count: int, penalty: float, stopping) -> dict:
    """One of the ways to weigh lengths, on one to three prompts, with one or two eos."""
    lengths = [(5, 3, 1), (4, 2), (5,)][index // 2 % 3]
    first, second = p.next(p.rows[0][: lengths[0]]), p.next(p.rows[1][: lengths[-1]])
    eos = [*{first[3], second[1]}] if index // 3 % 2 else first[2]
    return dict(
        p.batch(1, lengths),
        max_new_tokens=14,
        num_beams=count,
        num_return_sequences=1 + index % count,
        length_penalty=penalty,
        early_stopping=stopping,
        eos_token_id=eos,
        pad_token_id=1,
    )


def beam_details(file: GenerationFile, model: str):
    """Lengths, padding, processors and outputs of a beam search."""

    def some(p: Prompts, **options) -> dict:
        """Beams that end early."""
        return alone(p, 14, num_beams=3) | dict(eos_token_id=latest(p.next()[:9], 2)) | options

    for name, make in {
        "max_new_tokens 1": lambda p: some(p, max_new_tokens=1, num_return_sequences=3),
        "max_length": lambda p: dict(input_ids=[p.ids], max_length=13, num_beams=2, **NO_EOS),
        "no length": lambda p: dict(input_ids=[p.ids], num_beams=2, **NO_EOS),
        "prompt of one token": lambda p: some(p, input_ids=[p.ids[:1]], num_return_sequences=2),
        "rows filled with eos": lambda p: some(
            p, num_return_sequences=3, length_penalty=0.0, early_stopping=True
        ),
        "rows filled with a pad": lambda p: some(
            p, num_return_sequences=3, length_penalty=0.0, early_stopping=True, pad_token_id=7
        ),
        "rows filled with pad 0": lambda p: some(
            p, num_return_sequences=3, length_penalty=0.0, early_stopping=True, pad_token_id=0
        ),
        "eos 0": lambda p: some(p, eos_token_id=0, pad_token_id=0, num_return_sequences=3),
        "five eos": lambda p: some(p, eos_token_id=[*p.next()[1:6]], num_return_sequences=2),
    }.items():
        file.add(model, name, make)
    for name, extra in {
        "repetition_penalty": dict(repetition_penalty=1.4),
        "no_repeat_ngram_size": dict(no_repeat_ngram_size=2, max_new_tokens=24, **NO_EOS),
        "min_new_tokens": dict(min_new_tokens=9),
        "min_length": dict(min_length=15),
        "forced_eos_token_id": dict(forced_eos_token_id=5, eos_token_id=5),
        "exponential_decay_length_penalty": dict(
            exponential_decay_length_penalty=[3, 1.3], eos_token_id=[1, 2]
        ),
        "prefix_allowed_tokens": dict(prefix_allowed_tokens="parity"),
        "renormalize_logits": dict(renormalize_logits=True, repetition_penalty=1.2),
    }.items():
        file.add(
            model,
            name,
            lambda p, o=extra: some(p, num_return_sequences=2, **o),
            effect_of=(*CHANGING, "min_length"),
        )
    for name, make in {
        "bad_words_ids": lambda p: some(p, bad_words_ids=[[p.next()[0]], p.next()[1:3]]),
        "suppress_tokens": lambda p: some(p, suppress_tokens=[p.next()[0]]),
        "sequence_bias": lambda p: some(p, sequence_bias=[[[p.next()[0]], -2.5], [[4], 1.5]]),
        "padded batch, repetition_penalty": lambda p: rows_that_end(
            p, pad=1, num_beams=3, repetition_penalty=1.3
        ),
        "padded batch, prefix_allowed_tokens": lambda p: rows_that_end(
            p, pad=1, num_beams=3, prefix_allowed_tokens="parity", num_return_sequences=2
        ),
    }.items():
        file.add(model, name, make, effect_of=CHANGING)
    file.add(
        model,
        "without cache",
        lambda p: rows_that_end(p, pad=1, num_beams=2, use_cache=False),
        plain=("use_cache",),
    )
    file.add(
        model,
        "stop string",
        lambda p: some(p, stop_strings=[file.models.tokenizer.decode(p.next()[3:4])])
        if p.next()[3] > 1 else None,
        effect_of=CHANGING,
    )
    kept = dict(scores={0: [0], 1: [0, 2], 4: [1]}, logits={2: [1]}, transitions=True)
    file.add(model, "scores", lambda p: some(p, num_return_sequences=2), keep=kept)
