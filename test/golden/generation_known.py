"""What `generate` gave before these scripts were written; they stop where it gives it no more."""

import torch

from generation_file import Models, generate
from known_values import IDS, PAIR_IDS, PAIR_MASK

MODELS = ("base", "qkv_bias", "parallel_qk_norm")

# New tokens after IDS, by options, for each of the models.
GREEDY = [
    (
        dict(max_new_tokens=12),
        "9 40 31 0",
        "9 43 32 3 70 46 3 70 32 3 70 43",
        "70 41 8 85 52 32 25 86 69 16 36 13",
    ),
    (
        dict(max_new_tokens=12, eos_token_id=[0, 32]),
        "9 40 31 0",
        "9 43 32",
        "70 41 8 85 52 32",
    ),
    (
        dict(max_new_tokens=12, min_new_tokens=8),
        "9 40 31 88 80 39 32 3 59 92 31 88",
        "9 43 32 3 70 46 3 70 32 3 70 43",
        "70 41 8 85 52 32 25 86 69 16 36 13",
    ),
    (
        dict(max_new_tokens=12, repetition_penalty=1.5),
        "9 40 31 0",
        "9 43 32 3 70 46 12 37 76 39 14 65",
        "70 41 30 11 34 26 20 28 52 46 91 35",
    ),
    (
        dict(max_new_tokens=12, no_repeat_ngram_size=2),
        "9 40 31 0",
        "9 43 32 3 70 46 3 22 37 3 2 12",
        "70 41 8 85 52 32 25 86 69 16 36 13",
    ),
    (
        dict(max_new_tokens=12, bad_words_ids=[[9], [43, 32]]),
        "19 84 92 31 88 80 39 32 3 22 88 80",
        "19 3 43 70 39 32 3 70 46 76 3 22",
        "70 41 8 85 52 32 25 86 69 16 36 13",
    ),
    (
        dict(max_new_tokens=12, suppress_tokens=[9]),
        "19 84 92 31 88 80 39 32 3 22 88 80",
        "19 3 43 32 3 70 10 46 72 70 22 37",
        "70 41 8 85 52 32 25 86 69 16 36 13",
    ),
    (dict(max_length=10), "9 40", "9 43", "70 41"),
    (
        dict(max_new_tokens=8, prompt_lookup_num_tokens=3),
        "9 40 31 0",
        "9 43 32 3 70 46 3 70",
        "70 41 8 85 52 32 25 86",
    ),
]

# The same with beams, a list of rows and their scores for each of the models.
BEAMS = [
    (
        dict(num_beams=3),
        [("9 40 31 88 80 1 59 92", None)],
        [("19 3 43 32 3 70 32 3", None)],
        [("70 41 8 85 52 64 82 6", None)],
    ),
    (
        dict(num_beams=3, length_penalty=2.0, early_stopping="never"),
        [("9 40 31 88 80 1 59 92", -0.27106)],
        [("19 3 43 32 3 70 32 3", -0.271489)],
        None,
    ),
    (
        dict(num_beams=4, num_return_sequences=3),
        [
            ("19 19 38 2 10 6 80 39", -2.069066),
            ("19 19 38 2 10 6 80 73", -2.167993),
            ("19 19 38 2 10 6 2 10", -2.211161),
        ],
        [
            ("19 3 43 32 3 70 32 3", -2.171910),
            ("19 3 43 32 3 70 10 46", -2.196429),
            ("19 3 43 32 3 70 10 10", -2.284874),
        ],
        [
            ("70 41 8 85 52 64 82 6", -1.677039),
            ("70 41 8 85 52 32 69 64", -1.708857),
            ("70 41 8 85 52 64 82 28", -1.723234),
        ],
    ),
    (
        dict(num_beams=4, num_return_sequences=3, length_penalty=0.0, early_stopping=True),
        [
            ("9 40 31 0 0 0 0 0", -9.224624),
            ("19 19 38 2 10 6 80 39", -16.552526),
            ("19 19 38 2 10 6 80 73", -17.343945),
        ],
        None,
        None,
    ),
]

# Batches on the base model.
PAIR = dict(input_ids=PAIR_IDS, attention_mask=PAIR_MASK, max_new_tokens=12)
BOTH_WAYS = dict(input_ids=[IDS, IDS[::-1]])
FOUR_BEAMS = dict(
    max_new_tokens=8, num_beams=4, num_return_sequences=2, length_penalty=0.0,
    early_stopping=True, eos_token_id=31,
)
BATCHES = [
    (dict(BOTH_WAYS, max_new_tokens=12), ["9 40 31 0", "32 0 0 0"]),
    (dict(BOTH_WAYS, max_new_tokens=12, pad_token_id=1), ["9 40 31 0", "32 0 1 1"]),
    (PAIR, ["82 5 82 5 50 11 93 19 30 30 40 17", "0" + " 0" * 11]),
    (
        dict(input_ids=PAIR_IDS, max_new_tokens=6, pad_token_id=96),
        ["59 21 46 14 46 14", "0 96 96 96 96 96"],
    ),
    (
        dict(BOTH_WAYS, max_new_tokens=6, eos_token_id=31, pad_token_id=0),
        ["9 40 31 0 0 0", "32 0 88 84 46 69"],
    ),
    (dict(input_ids=[IDS], pad_token_id=0, **FOUR_BEAMS), ["9 40 31 31", "19 84 92 31"]),
    (dict(input_ids=[IDS], pad_token_id=7, **FOUR_BEAMS), ["9 40 31 7", "19 84 92 31"]),
    (dict(input_ids=[IDS], max_new_tokens=6, do_sample=True, top_k=1), ["9 40 31 0"]),
]

# Log-probabilities of the first four greedy tokens.
TRANSITIONS = {
    "base": [-2.234752, -2.459422, -2.467538, -2.062909],
    "qkv_bias": [-2.684813, -2.661296, -2.374435, -1.147153],
}

# What sampling draws the first token from: how many tokens, or the best of them with their scores.
FOUR = dict(temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.2)
SURVIVORS = [
    ("base", dict(), 50, {}),
    ("base", FOUR, 5, {9: 4.77147, 19: 4.47297, 68: 3.90107, 82: 3.81636, 0: 3.55849}),
    (
        "base",
        dict(FOUR, renormalize_logits=True),
        5,
        {9: -1.04479, 19: -1.34328, 68: -1.91519, 82: -1.99990, 0: -2.25777},
    ),
    ("base", dict(temperature=0.7, top_k=0, top_p=0.5), 5, dict.fromkeys((9, 19, 68, 82, 0))),
    ("base", dict(temperature=1.5, min_p=0.3, top_k=0), 16, {}),
    ("base", dict(typical_p=0.3, top_k=0), 13, dict.fromkeys((93, 84, 57))),
    (
        "qkv_bias",
        dict(temperature=0.7, top_k=0, top_p=0.5),
        7,
        dict.fromkeys((9, 19, 39, 84, 82, 68, 30)),
    ),
    ("qkv_bias", dict(temperature=1.5, min_p=0.3, top_k=0), 26, {}),
    ("qkv_bias", dict(typical_p=0.3, top_k=0), 19, {}),
]


def check_generation(models: Models):
    """Stops unless `generate` gives what it gave."""
    for options, *expected in GREEDY:
        for model, tokens in zip(MODELS, expected, strict=True):
            check(models, model, dict(input_ids=[IDS], **options), [tokens])
    for options, *expected in BEAMS:
        for model, rows in zip(MODELS, expected, strict=True):
            if rows is not None:
                arguments = dict(input_ids=[IDS], max_new_tokens=8, **options)
                tokens = [row for row, _ in rows]
                result = check(models, model, arguments, tokens)
                scores = [score for _, score in rows]
                if None not in scores:
                    near(result.sequences_scores, scores, f"{model} {options}")
    for options, rows in BATCHES:
        check(models, "base", options, rows)
    for model, expected in TRANSITIONS.items():
        result, _ = generate(models, model, dict(input_ids=[IDS], max_new_tokens=4))
        compute = models.get(model).compute_transition_scores
        found = compute(result.sequences, result.scores, normalize_logits=True)
        near(found[0], expected, f"{model} transitions")
    for model, options, count, best in SURVIVORS:
        arguments = dict(input_ids=[IDS], max_new_tokens=1, do_sample=True, **options)
        scores = generate(models, model, arguments)[0].scores[0][0]
        assert scores.isfinite().sum() == count, f"{model} {options}"
        assert scores.topk(len(best)).indices.tolist() == list(best), f"{model} {options}"
        if best and None not in best.values():
            near(scores[list(best)], list(best.values()), f"{model} {options}", 1e-5)


def check(models: Models, model: str, options: dict, expected: list[str]):
    result, _ = generate(models, model, options)
    found = result.sequences[:, len(options["input_ids"][0]) :].tolist()
    rows = [list(map(int, row.split())) for row in expected]
    assert found == rows, f"{model} {options}: {found}"
    return result


def near(found: torch.Tensor, expected: list[float], place: str, tolerance=2e-6):
    error = (found - torch.tensor(expected)).abs().max().item()
    assert error <= tolerance, f"{place}: off by {error}"
