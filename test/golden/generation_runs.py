"""Greedy runs of `generate`, and what of sampling does not hang on chance."""

from generation_file import GenerationFile, Models, Prompts
from model_table import CAUSAL_MODELS, ROPE_MODELS

# Models that go through everything.
FULL_MODELS = ("base", "qkv_bias", "parallel_qk_norm")
NO_EOS = dict(eos_token_id=None)


def alone(p: Prompts, tokens: int, **options) -> dict:
    """One prompt, and so many tokens."""
    return dict(input_ids=[p.ids], max_new_tokens=tokens, **options)


def latest(ids: list[int], count: int) -> list[int]:
    """The tokens that come up last among the first 25."""
    return list(dict.fromkeys(ids[:25]))[-count:]


def greedy(models: Models) -> GenerationFile:
    """Greedy search."""
    file = GenerationFile("greedy", models)
    for model in (*CAUSAL_MODELS, *ROPE_MODELS):
        file.add(model, "64 tokens", lambda p: alone(p, 64, **NO_EOS))
    for model in CAUSAL_MODELS:
        file.add(
            model,
            "padded batch, 64 tokens",
            lambda p: dict(p.batch(pad=1), max_new_tokens=64, pad_token_id=1, **NO_EOS),
            solo=True,
        )
        file.add(
            model, "eos list", lambda p: alone(p, 64, eos_token_id=latest(p.next(), 2)), ends=True
        )
        file.add(model, "rows that end", lambda p: rows_that_end(p, pad=1), ends=True, solo=True)
    for model in FULL_MODELS:
        lengths(file, model)
        paddings(file, model)
        outputs(file, model)
    return file


def rows_that_end(p: Prompts, pad: int, **options) -> dict | None:
    """A batch whose first two rows end early."""
    batch = p.batch(pad)
    eos = [p.next(p.rows[0])[4], p.next(p.rows[1][:3])[9]]
    return dict(batch, max_new_tokens=20, eos_token_id=eos, pad_token_id=pad, **options)


def lengths(file: GenerationFile, model: str):
    """Every way to bound a length."""

    def early(p: Prompts, **options):
        """A prompt that ends after four tokens unless something keeps it."""
        eos = p.next()[3]
        if eos in p.next()[:3]:
            return None
        return dict(input_ids=[p.ids], eos_token_id=eos, **options)

    file.add(model, "eos 0 of the config", lambda p: alone(p, 24) if 0 in p.next()[2:20] else None)
    for name, options in dict(
        min_new_tokens=dict(min_new_tokens=8, max_new_tokens=12),
        min_length=dict(min_length=14, max_new_tokens=12),
        min_length_within_prompt=dict(min_length=8, max_new_tokens=12),
    ).items():
        effect = () if "within" in name else ("min_length", "min_new_tokens")
        file.add(model, name, lambda p, o=options: early(p, **o), effect_of=effect)
    file.add(model, "max_length", lambda p: dict(input_ids=[p.ids], max_length=10, **NO_EOS))
    file.add(model, "max_new_tokens 1", lambda p: alone(p, 1))
    file.add(model, "no length", lambda p: dict(input_ids=[p.ids], **NO_EOS))
    twelve = dict(max_new_tokens=12, **NO_EOS)
    file.add(model, "prompt of one token", lambda p: dict(input_ids=[p.ids[:1]], **twelve))
    file.add(model, "prompt of token 0", lambda p: dict(input_ids=[[0]], **twelve))
    file.add(model, "no prompt", lambda p: twelve)
    file.add(
        model,
        "without cache",
        lambda p: alone(p, 12, use_cache=False, **NO_EOS),
        plain=("use_cache",),
    )
    file.add(
        model,
        "padded batch without cache",
        lambda p: rows_that_end(p, pad=2, use_cache=False),
        ends=True,
        plain=("use_cache",),
    )


def paddings(file: GenerationFile, model: str):
    """Every way to say, or not to say, what is padding."""

    def batch(p: Prompts, pad: int, mask=True, **options) -> dict:
        """Padded rows, with or without their mask."""
        batch = p.batch(pad)
        if not mask:
            del batch["attention_mask"]
        return dict(batch, max_new_tokens=12, **options)

    def eos(p: Prompts) -> int:
        """A token that ends the first row."""
        return p.next(p.rows[0])[3]

    runs = {
        "pad is eos": lambda p: batch(p, eos(p), eos_token_id=eos(p)),
        "pad is the first eos": lambda p: batch(p, 0, eos_token_id=[eos(p), 5]),
        "pad 0 beside an eos": lambda p: batch(p, 0, eos_token_id=eos(p), pad_token_id=0),
        "eos 0 and pad 0": lambda p: batch(p, 0, eos_token_id=0, pad_token_id=0),
        "eos 0 and pad 1": lambda p: batch(p, 1, eos_token_id=0, pad_token_id=1),
        "mask inferred from the pad": lambda p: batch(
            p, 1, mask=False, eos_token_id=eos(p), pad_token_id=1
        ),
        "mask not inferred from an eos": lambda p: batch(
            p, 0, mask=False, eos_token_id=[eos(p), 0], pad_token_id=0
        ),
    }
    for name, make in runs.items():
        file.add(model, name, make, ends=True)
    file.add(
        model,
        "mask inferred without eos",
        lambda p: batch(p, 1, mask=False, pad_token_id=1, **NO_EOS),
        effect_of=("pad_token_id",),
    )
    file.add(
        model,
        "mask inferred within a prompt",
        lambda p: alone(p, 12, pad_token_id=p.ids[4], **NO_EOS),
        effect_of=("pad_token_id",),
    )
    file.add(
        model,
        "mask with a hole",
        lambda p: alone(p, 12, attention_mask=[[0, 1, 1, 0, 0, 1, 1, 1]], **NO_EOS),
        effect_of=("attention_mask",),
    )
    file.add(
        model,
        "batch without padding",
        lambda p: dict(input_ids=p.rows, max_new_tokens=12, **NO_EOS),
    )


def outputs(file: GenerationFile, model: str):
    """Scores and logits of some steps, of rows that go on and rows that have ended."""
    kept = {0: [0], 7: [0]}
    file.add(
        model,
        "scores",
        lambda p: alone(p, 8, repetition_penalty=1.3, **NO_EOS),
        keep=dict(scores=kept, logits=kept, transitions=True),
    )
    file.add(
        model,
        "scores of a batch",
        lambda p: rows_that_end(p, pad=1),
        keep=dict(scores={0: [0, 2], 5: [1]}, logits={11: [2]}, transitions=True),
        ends=True,
    )


def sampling(models: Models) -> GenerationFile:
    """What of sampling does not hang on chance: one token to draw from, and what is drawn from."""
    file = GenerationFile("sampling", models)
    for model in (*FULL_MODELS, "tied_gelu", "multi_query"):
        file.add(model, "top_k 1", lambda p: alone(p, 12, do_sample=True, top_k=1, **NO_EOS))
    settings = {
        "defaults": dict(),
        "top_k 0": dict(top_k=0),
        "four together": dict(temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.2),
        "renormalized": dict(
            temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.2, renormalize_logits=True
        ),
        "top_p": dict(temperature=0.7, top_k=0, top_p=0.5),
        "top_p 0": dict(top_k=0, top_p=0.0),
        "min_p": dict(temperature=1.5, min_p=0.3, top_k=0),
        "typical_p": dict(typical_p=0.3, top_k=0),
        "typical_p with top_k": dict(typical_p=0.8, top_k=12, temperature=1.3),
        "epsilon_cutoff": dict(epsilon_cutoff=0.015, top_k=0),
        "eta_cutoff": dict(eta_cutoff=0.1, top_k=0),
        "top_h": dict(top_h=0.4, top_k=0),
        "everything": dict(
            temperature=0.9, top_h=0.9, top_k=40, top_p=0.95, min_p=0.02, typical_p=0.97,
            epsilon_cutoff=0.002, eta_cutoff=0.002, repetition_penalty=1.1, renormalize_logits=True,
        ),
    }
    for name, options in settings.items():
        for model in ("base", "qkv_bias") if len(options) < 5 else (*FULL_MODELS, "tied_gelu"):
            file.add(
                model,
                name,
                lambda p, o=options: alone(p, 1, do_sample=True, **o),
                keep=dict(scores={0: [0]}),
            )
    for name, options in {
        "beams keep one token more than there are eos": dict(top_k=1, eos_token_id=[0, 1, 2]),
        "beams without eos keep two tokens": dict(top_k=0, top_p=0.0, **NO_EOS),
    }.items():
        file.add(
            "base",
            name,
            lambda p, o=options: alone(p, 1, do_sample=True, num_beams=2, **o),
            keep=dict(scores={0: [0]}),
        )
    return file
