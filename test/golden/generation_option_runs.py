"""Runs of `generate` with everything that changes scores, on its own and together."""

import random

from generation_file import GenerationFile, Models, Prompts
from generation_runs import FULL_MODELS, NO_EOS, alone
from model_table import CAUSAL_MODELS, ROPE_MODELS

# Options whose effect is looked for.
CHANGING = (
    "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "sequence_bias",
    "exponential_decay_length_penalty", "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size", "guidance_scale", "negative_prompt_ids",
    "negative_prompt_attention_mask", "prefix_allowed_tokens", "min_new_tokens", "stop_strings",
)


def options(models: Models) -> GenerationFile:
    """Everything that changes scores, on its own and together."""
    file = GenerationFile("options", models)
    for model in FULL_MODELS:
        for name, make in single_options().items():
            file.add(
                model, name, lambda p, f=make: alone(p, 12, **NO_EOS) | f(p), effect_of=CHANGING
            )
        for name, make in batch_options().items():
            file.add(
                model,
                name,
                lambda p, f=make: dict(p.batch(p.next()[0]), max_new_tokens=12, **NO_EOS) | f(p),
                effect_of=CHANGING,
            )
        without_effect(file, model)
    stop_strings(file)
    for index, model in enumerate((*CAUSAL_MODELS, *CAUSAL_MODELS, *ROPE_MODELS)):
        file.add(model, f"random {index}", lambda p, i=index: together(p, i), effect_of=CHANGING)
    return file


def repeating(p: Prompts) -> list[int]:
    """A prompt in which what is likely to follow has been before."""
    return [*p.next()[:6], *p.ids[:3], *p.next()[:2]]


def single_options() -> dict:
    """Each option on its own, by name."""

    def penalty(factor):
        return lambda p: dict(repetition_penalty=factor)

    def encoder_penalty(factor):
        return lambda p: dict(input_ids=[repeating(p)], encoder_repetition_penalty=factor)

    def no_repeat(size):
        return lambda p: dict(no_repeat_ngram_size=size)

    def encoder_no_repeat(size):
        return lambda p: dict(input_ids=[repeating(p)], encoder_no_repeat_ngram_size=size)

    def guided(scale, **negative):
        return lambda p: dict(guidance_scale=scale, **negative)

    return {
        "repetition_penalty 1.5": penalty(1.5),
        "repetition_penalty 0.6": penalty(0.6),
        "no_repeat_ngram_size 1": no_repeat(1),
        "no_repeat_ngram_size 2": lambda p: no_repeat(2)(p) | dict(max_new_tokens=40),
        "no_repeat_ngram_size 3": lambda p: no_repeat(3)(p) | dict(max_new_tokens=48),
        "bad_words_ids": lambda p: dict(
            bad_words_ids=[[p.next()[2]], p.next()[:2], [p.ids[-1], p.next()[0]]]
        ),
        "bad_words_ids, one of them eos": lambda p: dict(
            eos_token_id=p.next()[4], bad_words_ids=[[p.next()[4]], p.next()[1:3]]
        ),
        "bad_words_ids longer than the text": lambda p: dict(
            input_ids=[p.ids[:1]], bad_words_ids=[p.ids[:1] + p.next(p.ids[:1])[:3], list(range(9))]
        ),
        "suppress_tokens": lambda p: dict(suppress_tokens=[p.next()[0], p.next()[4], 0]),
        "begin_suppress_tokens": lambda p: dict(begin_suppress_tokens=[p.next()[0]]),
        "forced_bos_token_id": lambda p: dict(input_ids=[p.ids[:1]], forced_bos_token_id=7),
        "forced_bos_token_id 0": lambda p: dict(input_ids=[p.ids[:1]], forced_bos_token_id=0),
        "begin_suppress_tokens behind a forced bos": lambda p: dict(
            input_ids=[p.ids[:1]],
            forced_bos_token_id=7,
            begin_suppress_tokens=[p.next([p.ids[0], 7])[0]],
        ),
        "forced_eos_token_id": lambda p: dict(eos_token_id=5, forced_eos_token_id=5),
        "forced_eos_token_id that is no eos": lambda p: dict(eos_token_id=6, forced_eos_token_id=0),
        "sequence_bias": lambda p: dict(
            sequence_bias=[
                [[p.next()[0]], -1.5],
                [p.next()[1:3], -10.0],
                [[9], 1.5],
                [[9, 0], 6.0],
                [[p.ids[-1], 11], 2.0],
                [[*p.ids, *p.ids, 3], 50.0],
            ]
        ),
        "exponential_decay_length_penalty": lambda p: dict(
            eos_token_id=[0, 50], exponential_decay_length_penalty=[2, 1.6]
        ),
        "encoder_repetition_penalty 2": encoder_penalty(2.0),
        "encoder_repetition_penalty 0.6": encoder_penalty(0.6),
        "encoder_no_repeat_ngram_size 1": encoder_no_repeat(1),
        "encoder_no_repeat_ngram_size 2": encoder_no_repeat(2),
        "guidance_scale 1.5": guided(1.5),
        "guidance_scale 0.5": guided(0.5),
        "guidance_scale 0": guided(0.0),
        "guidance_scale 2 from a negative prompt": lambda p: guided(
            2.0, negative_prompt_ids=[p.hashed(4, "negative")]
        )(p),
        "guidance_scale 2 without cache": lambda p: guided(
            2.0, negative_prompt_ids=[p.hashed(4, "negative")], use_cache=False
        )(p),
        "prefix_allowed_tokens": lambda p: dict(prefix_allowed_tokens="parity"),
        "min_new_tokens": lambda p: dict(eos_token_id=p.next()[3], min_new_tokens=6),
    }


def batch_options() -> dict:
    """Options on a padded batch, where padding is among the tokens that some of them look at."""
    return {
        "batch: repetition_penalty": lambda p: dict(repetition_penalty=1.5),
        "batch: no_repeat_ngram_size": lambda p: dict(no_repeat_ngram_size=2, max_new_tokens=32),
        "batch: bad_words_ids": lambda p: dict(
            bad_words_ids=[[p.rows[0][4], p.next(p.rows[0])[0]], [p.next(p.rows[1][:3])[1]]]
        ),
        "batch: encoder_repetition_penalty": lambda p: dict(encoder_repetition_penalty=2.5),
        "batch: encoder_no_repeat_ngram_size": lambda p: dict(encoder_no_repeat_ngram_size=1),
        "batch: forced_eos_token_id": lambda p: dict(eos_token_id=3, forced_eos_token_id=3),
        "batch: guidance_scale": lambda p: dict(guidance_scale=1.7),
        "batch: guidance_scale from padded prompts": lambda p: dict(
            guidance_scale=1.7,
            negative_prompt_ids=[[0, 0, 4], [7, 8, 9], [0, 5, 6]],
            negative_prompt_attention_mask=[[0, 0, 1], [1, 1, 1], [0, 1, 1]],
        ),
        "batch: prefix_allowed_tokens": lambda p: dict(prefix_allowed_tokens="parity"),
    }


def without_effect(file: GenerationFile, model: str):
    """Options that do nothing to the tokens but show in the scores, or do nothing at all."""
    for name, options in {
        "renormalize_logits": dict(renormalize_logits=True, suppress_tokens=[1, 2]),
        "remove_invalid_values": dict(remove_invalid_values=True, bad_words_ids=[[1], [2]]),
        "guidance_scale 1": dict(guidance_scale=1.0),
        "forced_bos_token_id behind a prompt": dict(forced_bos_token_id=7),
        "no_repeat_ngram_size longer than the text": dict(no_repeat_ngram_size=30),
    }.items():
        file.add(
            model,
            name,
            lambda p, o=options: alone(p, 6, **o, **NO_EOS),
            keep=dict(scores={0: [0], 5: [0]}),
        )


def stop_strings(file: GenerationFile):
    """Texts that end rows. In a small vocabulary a token is a letter, in the wide one several."""
    tokenizer = file.models.tokenizer

    def text(*ids: int) -> str:
        return tokenizer.decode(ids)

    def new_text(p: Prompts, places: slice) -> str | None:
        """The text of some new tokens, if each of them is a whole number of letters."""
        ids = p.next()[places]
        texts = [text(id) for id in ids]
        are_whole = all(part and "\ufffd" not in part for part in texts)
        whole = "".join(texts)
        return whole if are_whole and max(ids) < len(tokenizer) and whole.strip() else None

    def one(p: Prompts):
        return new_text(p, slice(5, 6))

    def three(p: Prompts):
        return new_text(p, slice(3, 6))

    def two_texts(p: Prompts):
        found = new_text(p, slice(7, 9))
        return found and [found, "never"]

    def over_the_prompt(p: Prompts):
        found, last = new_text(p, slice(0, 1)), text(p.ids[-1])
        return found and last.isprintable() and last[-1:] + found

    def special(p: Prompts):
        return 0 in p.next()[:12] and ["|endof"]

    def within_a_token(p: Prompts):
        found = new_text(p, slice(6, 7))
        return found and len(found) > 3 and found[1:-1]

    def over_ends(p: Prompts):
        found = new_text(p, slice(4, 7))
        return found and all(len(text(id)) > 2 for id in p.next()[4:7]) and found[1:-1]

    def add(model: str, name: str, stops):
        def make(p: Prompts) -> dict | None:
            found = stops(p)
            return alone(p, 16, stop_strings=found, **NO_EOS) if found else None

        file.add(model, name, make, ends=True)

    for model in ("base", "wide_vocabulary"):
        add(model, "one token's text", one)
        add(model, "text of three tokens", three)
        add(model, "first of two texts", two_texts)
        add(model, "text that begins in the prompt", over_the_prompt)
    add("base", "text of a special token", special)
    add("wide_vocabulary", "text within a token", within_a_token)
    add("wide_vocabulary", "text over the ends of tokens", over_ends)

    def rows(p: Prompts, **eos) -> dict | None:
        first, second = p.next(p.rows[0])[3:5], p.next(p.rows[1][:3])[8:9]
        stops = [text(*first), text(*second)]
        batch = dict(p.batch(pad=1), max_new_tokens=16, pad_token_id=1)
        return dict(batch, stop_strings=stops, **eos) if all(stops) else None

    # Without an eos, transformers lets rows go on behind their texts until all have ended.
    for name, eos in {
        "texts that end rows, without eos": lambda p: None,
        "texts that end rows, and an eos": lambda p: p.next(p.rows[2][:1])[5],
    }.items():
        file.add(
            "base",
            name,
            lambda p, e=eos: rows(p, eos_token_id=e(p)),
            effect_of=("stop_strings",),
            solo=True,
        )


def together(p: Prompts, index: int, beams: int = 1) -> dict | None:
    """Some options at once, drawn by the index and the prompts' number."""
    dice = random.Random(f"{index} {p.number}")
    n, V = p.next(), p.vocabulary

    def some(count: int) -> list[int]:
        return dice.sample(range(V), count)

    choices = [
        dict(repetition_penalty=dice.choice([0.8, 1.1, 1.3, 2.0])),
        dict(no_repeat_ngram_size=dice.choice([2, 3])),
        dict(encoder_no_repeat_ngram_size=dice.choice([1, 2])),
        dict(bad_words_ids=[[n[dice.randrange(6)]], some(2), n[1:3]]),
        dict(suppress_tokens=[*some(8), n[dice.randrange(9)]]),
        dict(begin_suppress_tokens=[n[0], *some(2)]),
        dict(sequence_bias=[[[id], round(dice.uniform(-4, 3), 2)] for id in [*some(5), n[1]]]),
        dict(forced_eos_token_id=some(1)[0]),
        dict(exponential_decay_length_penalty=[dice.randrange(2, 8), dice.choice([1.05, 1.2])]),
        dict(min_new_tokens=dice.randrange(3, 14)),
        dict(prefix_allowed_tokens="parity"),
        dict(renormalize_logits=True),
        dict(remove_invalid_values=True),
    ]
    if beams == 1:
        choices.append(dict(guidance_scale=dice.choice([0.7, 1.4])))
        # Of several beams, transformers penalizes the first of all only.
        choices.append(dict(encoder_repetition_penalty=dice.choice([0.7, 1.2])))
    chosen = {}
    for option in dice.sample(choices, dice.randrange(2, 6)):
        chosen |= option
    if chosen.get("forced_eos_token_id") in chosen.get("suppress_tokens", []):
        return None
    eos = dice.choice([some(1)[0], [*some(1), n[5]], [n[4], n[9], *some(1)]])
    inputs = p.batch(pad=2) if dice.random() < 0.4 else dict(input_ids=[p.ids])
    options = dict(inputs, max_new_tokens=16, eos_token_id=eos, pad_token_id=2, **chosen)
    return options if beams == 1 else options | dict(num_beams=beams)
