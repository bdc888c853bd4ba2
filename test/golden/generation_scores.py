"""Writes golden scores: what the logits processors of Hugging Face transformers make of scores.

    python test/golden/generation_scores.py

A case is a config, the rows of a batch and their scores; transformers builds the processors itself,
as `generate` does. A case counts only where no token's fate hangs on a rounding or on the order in
which a sort leaves equal scores: the processors must ban the same tokens in f64, and where the
vocabulary is in another order. Cases by chance that do not are drawn again; the others stop the
script.
"""

import json
import random

import torch
from safetensors.torch import save_file
from transformers import LogitsProcessorList, StableLmConfig, StableLmForCausalLM

from golden_file import FOLDER, VERSIONS, build
from model_table import BASE

VOCAB = 97
# Orders of the vocabulary that are tried.
ORDERS = 4
NONE = float("-inf")


class Unfair(Exception):
    """A case that two right implementations may answer differently."""


def vector(seed: int, size: int, kind: str) -> torch.Tensor:
    """Scores [size] by chance: all different, many equal, or some of them banned and many equal."""
    scores = 2.5 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    if kind in ("ties", "banned"):
        scores = (2 * scores).round() / 2
    if kind == "banned":
        order = torch.randperm(size, generator=torch.Generator().manual_seed(-seed))
        scores[order[: size // 5]] = NONE
    return scores


def processed(model, case: dict, scores: torch.Tensor) -> torch.Tensor:
    """What the processors that `generate` builds make of scores [rows, V]."""
    config, _ = model._prepare_generation_config(None, **case["config"])
    model._prepare_special_tokens(config, kwargs_has_attention_mask=True, device="cpu")
    prompts = torch.tensor(case["prompts"])[:: case["rows_of_prompt"]]
    config.max_length = case["max_length"]
    if config.min_new_tokens is not None:
        config.min_length = config.min_new_tokens + prompts.shape[1]
    allowed = case.get("allowed")
    # It counts prompts where there are beams, and rows where there are none.
    repeats = case["rows_of_prompt"] if config.num_beams > 1 else 1
    processors = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=prompts.shape[1],
        encoder_input_ids=prompts,
        prefix_allowed_tokens_fn=allowed and (lambda prompt, _ids: allowed[prompt * repeats]),
        device="cpu",
    )
    return processors(torch.tensor(case["ids"]), scores.clone())


def renamed(value, names: list[int]):
    """Lists of token ids in a vocabulary of another order."""
    if isinstance(value, list):
        return [renamed(entry, names) for entry in value]
    return value if value is None else names[value]


def renamed_case(case: dict, names: list[int]) -> dict:
    """A case in a vocabulary of another order."""
    config = dict(case["config"])
    for key in config:
        if key == "sequence_bias":
            config[key] = [[renamed(ids, names), bias] for ids, bias in config[key]]
        elif key.endswith(("_ids", "_id", "_tokens")) and key != "min_new_tokens":
            config[key] = renamed(config[key], names)
    lists = {key: renamed(case[key], names) for key in ("prompts", "ids", "allowed") if key in case}
    return case | dict(config=config) | lists


def checked(model, case: dict, scores: torch.Tensor) -> torch.Tensor:
    """What the processors make of the scores, where that is a fair question."""
    size = scores.shape[-1]
    try:
        result = processed(model, case, scores)
    except ValueError as error:
        raise Unfair("a processor refuses NaN") from error
    if result.isnan().any() or (result == NONE).all(-1).any():
        raise Unfair("a row has NaN, or no token left")
    double = processed(model, case, scores.double())
    # f32 has another largest value than f64, which `remove_invalid_values` puts in.
    finite = result.abs() < 1e38
    if not torch.equal(result == NONE, double == NONE):
        raise Unfair("f64 bans other tokens")
    if not torch.allclose(result[finite].double(), double[finite], rtol=1e-5, atol=1e-5):
        raise Unfair("f64 has other scores")
    for seed in range(ORDERS):
        names = random.Random(seed).sample(range(size), size)
        there = torch.empty_like(scores)
        there[:, names] = scores
        back = processed(model, renamed_case(case, names), there)[:, names]
        if not torch.equal(result == NONE, back == NONE):
            raise Unfair("the order of ids matters")
    return result


# By processor, what it is tried with. Every one is tried on each vector, drawing tokens.
FILTERS = [
    *({"temperature": t} for t in (0.3, 0.7, 1.7)),
    *({"top_k": k} for k in (1, 2, 7, 40, 96, 500)),
    *({"top_p": p} for p in (0.0, 0.1, 0.5, 0.77, 0.95, 0.999)),
    *({"min_p": m} for m in (0.0, 0.02, 0.1, 0.3, 1.0)),
    *({"top_h": h} for h in (0.1, 0.4, 0.75, 0.97)),
    *({"typical_p": m} for m in (0.05, 0.2, 0.6, 0.9, 0.99)),
    *({"epsilon_cutoff": e} for e in (0.0003, 0.01, 0.06, 0.9)),
    *({"eta_cutoff": e} for e in (0.0003, 0.01, 0.06, 0.9)),
    {"renormalize_logits": True},
    {"num_beams": 3, "top_k": 1},
    {"num_beams": 3, "top_p": 0.0, "eos_token_id": [5, 6]},
    {"num_beams": 3, "min_p": 1.0},
    {"num_beams": 3, "typical_p": 0.01},
    {"num_beams": 3, "epsilon_cutoff": 0.99, "eos_token_id": [5, 6]},
    {"num_beams": 3, "eta_cutoff": 0.99},
]

# The tokens that rows repeat; few, so that runs of them come again.
WORDS = [0, 3, 17, 96]

CONTENT = [
    *({"repetition_penalty": p} for p in (0.6, 1.3, 4.0)),
    *({"encoder_repetition_penalty": p} for p in (0.6, 1.3)),
    *({"no_repeat_ngram_size": n} for n in (1, 2, 3, 4)),
    *({"encoder_no_repeat_ngram_size": n} for n in (1, 2, 3)),
    {"bad_words_ids": [[1], [0], [3, 17], [17, 3], [0, 3, 17], [3, 3, 3], [3] * 20]},
    {"bad_words_ids": [[0], [5]], "eos_token_id": [0, 5]},
    {"sequence_bias": [[[1], 2.5], [[3, 17], -1.25], [[17, 17], 0.1], [[96, 17], 0.7]]},
    {"sequence_bias": [[[17], 0.3], [[3, 17], 0.2], [[0, 3, 17], -0.1], [[17], 0.4]]},
    {"min_length": 19, "eos_token_id": 0},
    {"min_length": 20, "eos_token_id": [0, 96]},
    {"min_new_tokens": 10, "eos_token_id": [0, 96]},
    {"min_new_tokens": 9, "eos_token_id": 0},
    {"forced_eos_token_id": 0},
    {"forced_eos_token_id": [3, 0]},
    {"forced_bos_token_id": 7},
    {"exponential_decay_length_penalty": (4, 1.2), "eos_token_id": [0, 96]},
    {"exponential_decay_length_penalty": (9, 1.2), "eos_token_id": 0},
    {"exponential_decay_length_penalty": (0, 0.8), "eos_token_id": 0},
    {"suppress_tokens": [0, 96, 40]},
    {"begin_suppress_tokens": [0, 96, 40]},
]


class ScoresFile:
    """The cases, and the tensors of their scores."""

    def __init__(self, model):
        self.model = model
        self.cases: list[dict] = []
        self.tensors: dict[str, torch.Tensor] = {}

    def store(self, name: str, tensor: torch.Tensor):
        """Keeps a tensor under a name that no other has."""
        assert name not in self.tensors, name
        self.tensors[name] = tensor.contiguous()

    def add(self, name: str, case: dict, scores_name: str, scores: torch.Tensor):
        """Processes scores, which are stored already, and keeps what becomes of them."""
        result = checked(self.model, case, scores)
        self.store(f"processed/{name}", result)
        self.cases.append(dict(name=name, scores=scores_name) | case)

    def write(self):
        """Writes the file; the same bytes for the same numbers."""
        description = json.dumps(dict(made_with=VERSIONS, cases=self.cases), separators=(",", ":"))
        path = FOLDER / "generation_scores.safetensors"
        save_file(self.tensors, path, dict(golden=description))
        path.chmod(0o644)
        print(f"{path.name}: {len(self.cases)} cases, {path.stat().st_size} bytes")


def add_filters(file: ScoresFile):
    """Each filter on vectors of several sizes, drawing tokens."""
    vectors = {
        "ties": vector(1, VOCAB, "ties"),
        "banned": vector(2, VOCAB, "banned"),
        "wide": vector(3, 512, "plain"),
    }
    for name, scores in vectors.items():
        file.store(f"scores/{name}", scores[None])
    for options in FILTERS:
        title = " ".join(f"{key} {value}" for key, value in options.items())
        config = {"do_sample": True, "top_k": 0} | options
        case = dict(config=config, max_length=20, rows_of_prompt=1)
        case |= dict(prompts=[[1, 2]], ids=[[1, 2, 3]])
        for name, scores in vectors.items():
            try:
                file.add(f"{title}, {name}", case, f"scores/{name}", scores[None])
            except Unfair as reason:
                # Where a cut has to go through equal scores, there is nothing to compare.
                assert name in ("ties", "banned"), f"{title}, {name}: {reason}"


def add_content(file: ScoresFile):
    """Each processor that looks at a row's tokens, on rows that repeat theirs."""
    chance = random.Random(5)
    scores = torch.stack([vector(4, VOCAB, "plain"), vector(5, VOCAB, "ties")])
    file.store("scores/rows", scores)
    prompts = [[chance.choice(WORDS) for _ in range(10)] for _ in range(2)]
    ids = [row + [chance.choice(WORDS) for _ in range(9)] for row in prompts]
    for options in CONTENT:
        title = " ".join(f"{key} {value}" for key, value in options.items())
        case = dict(config=options, max_length=20, rows_of_prompt=1, prompts=prompts, ids=ids)
        file.add(title, case, "scores/rows", scores)
    one = [[3], [17]]
    short = dict(max_length=20, rows_of_prompt=1, prompts=one)
    begin = {"begin_suppress_tokens": [0, 96, 40]}
    bos = {"forced_bos_token_id": 7}
    file.add("first token suppressed", short | dict(config=begin, ids=one), "scores/rows", scores)
    file.add("first token forced", short | dict(config=bos, ids=one), "scores/rows", scores)
    both = short | dict(config=begin | bos, ids=[[3, 7], [17, 7]])
    file.add("second token suppressed", both, "scores/rows", scores)
    invalid = scores.clone()
    invalid[:, ::7] = float("nan")
    invalid[:, 1::7] = float("inf")
    file.store("scores/invalid", invalid)
    case = short | dict(config={"remove_invalid_values": True}, ids=one)
    file.add("remove_invalid_values", case, "scores/invalid", invalid)
    few = [[0, 3, 5, 96], [17]]
    case = short | dict(config={}, ids=one, allowed=few)
    file.add("prefix_allowed_tokens", case, "scores/rows", scores)
    # All that the second row may have is banned; of the beams, all that either may have.
    case["config"] = {"bad_words_ids": [[17]]}
    file.add("prefix_allowed_tokens, banned", case, "scores/rows", scores)
    beams = dict(num_beams=2, bad_words_ids=[[17]])
    case |= dict(config=beams, rows_of_prompt=2, allowed=[[17], [17]])
    file.add("prefix_allowed_tokens, banned beams", case, "scores/rows", scores)


def chosen(chance: random.Random, beams: int, returned: int) -> dict:
    """Options by chance."""

    def words() -> list[int]:
        return chance.choices(WORDS, k=chance.randint(1, 3))

    def tokens() -> list[int]:
        return [chance.randrange(VOCAB) for _ in range(chance.randint(1, 9))]

    eos = chance.choice([None, 0, [0], [3, 96]])
    biased = [[words(), round(chance.uniform(-3, 3), 2)] for _ in range(6)]
    possible = {
        "sequence_bias": biased,
        "repetition_penalty": round(chance.uniform(0.7, 1.8), 2),
        "no_repeat_ngram_size": chance.randint(1, 4),
        "encoder_no_repeat_ngram_size": chance.randint(1, 4),
        "bad_words_ids": [words() for _ in range(4)],
        "min_length": chance.randint(0, 20),
        "min_new_tokens": chance.randint(0, 9),
        "suppress_tokens": tokens(),
        "begin_suppress_tokens": tokens(),
        "temperature": round(chance.uniform(0.4, 1.6), 2),
        "top_h": round(chance.uniform(0.3, 0.9), 2),
        "top_k": chance.choice([0, 1, 5, 20, 60]),
        "top_p": round(chance.uniform(0.1, 0.99), 2),
        "min_p": round(chance.uniform(0.01, 0.3), 3),
        "typical_p": round(chance.uniform(0.1, 0.99), 2),
        "epsilon_cutoff": round(chance.uniform(0.0003, 0.01), 4),
        "eta_cutoff": round(chance.uniform(0.0003, 0.01), 4),
        "renormalize_logits": True,
        "remove_invalid_values": True,
    }
    if beams == 1 and returned == 1:
        # transformers reads the wrong rows of it otherwise.
        possible["encoder_repetition_penalty"] = round(chance.uniform(0.7, 1.8), 2)
    if eos is not None:
        decay = (chance.randint(0, 6), round(chance.uniform(0.9, 1.2), 2))
        possible["exponential_decay_length_penalty"] = decay
    config = {key: value for key, value in possible.items() if chance.random() < 0.35}
    config |= dict(eos_token_id=eos, do_sample=chance.random() < 0.8)
    if beams > 1:
        config["num_beams"] = beams
    if returned > 1:
        config |= dict(num_return_sequences=returned, do_sample=True)
    return config


def add_combinations(file: ScoresFile, count: int):
    """Options by chance, on batches by chance."""
    chance = random.Random(8)
    again = 0
    while count > 0:
        beams, returned = chance.choice([(1, 1), (1, 1), (2, 1), (1, 2)])
        repeats = beams * returned
        rows = repeats * chance.randint(1, 2)
        length = chance.randint(2, 12)
        config = chosen(chance, beams, returned)
        prompts = [[chance.choice(WORDS) for _ in range(length)] for _ in range(rows // repeats)]
        prompts = [row for row in prompts for _ in range(repeats)]
        new = chance.randint(0, 8)
        ids = [row + [chance.choice(WORDS) for _ in range(new)] for row in prompts]
        case = dict(config=config, max_length=30, rows_of_prompt=repeats, prompts=prompts, ids=ids)
        kinds = [chance.choice(["plain", "ties", "banned"]) for _ in range(rows)]
        scores = torch.stack([vector(chance.randrange(2**31), VOCAB, kind) for kind in kinds])
        if beams > 1:
            scores = scores.log_softmax(-1)
        name = f"combination {count}"
        try:
            file.add(name, case, f"scores/{name}", scores)
        except Unfair:
            again += 1
            continue
        file.store(f"scores/{name}", scores)
        count -= 1
    print(f"{again} combinations were drawn again")


class Recorded(LogitsProcessorList):
    """Processors that note what they are given."""

    def __init__(self, processors, steps: list):
        super().__init__(processors)
        self.steps = steps

    def __call__(self, input_ids, scores, **kwargs):
        result = super().__call__(input_ids, scores.clone(), **kwargs)
        self.steps.append((input_ids.clone(), scores.clone(), result.clone()))
        return result


GENERATED = {
    "greedy": dict(
        repetition_penalty=1.3, no_repeat_ngram_size=2, min_new_tokens=4, eos_token_id=[0, 31]
    ),
    "sampled": dict(do_sample=True, temperature=0.7, top_k=5, top_p=0.9, repetition_penalty=1.2),
    "returned": dict(
        do_sample=True, top_k=0, typical_p=0.6, num_return_sequences=2, min_length=9
    ),
    "ended": dict(
        forced_eos_token_id=7, exponential_decay_length_penalty=(1, 1.3), eos_token_id=0
    ),
    "beams": dict(
        num_beams=2, bad_words_ids=[[9], [43, 32]], renormalize_logits=True, eos_token_id=0
    ),
    "drawn beams": dict(
        num_beams=2, do_sample=True, top_k=3, eos_token_id=[0, 31], suppress_tokens=[9]
    ),
}


def add_generated(file: ScoresFile):
    """Steps of `generate` itself, which gives the processors the lengths of prompt and row."""
    prompt = [5, 17, 3, 96, 42, 8, 60, 23]
    for name, options in GENERATED.items():
        steps: list = []
        build_list = type(file.model)._get_logits_processor

        def recorded(*arguments, **named):
            return Recorded(build_list(file.model, *arguments, **named), steps)

        torch.manual_seed(9)
        file.model._get_logits_processor = recorded
        inputs = torch.tensor([prompt, prompt[::-1]][: 1 if "num_beams" in options else 2])
        mask = torch.ones_like(inputs)
        given = dict(pad_token_id=1, max_new_tokens=6) | options
        file.model.generate(inputs, attention_mask=mask, **given)
        del file.model._get_logits_processor
        repeats = options.get("num_beams", options.get("num_return_sequences", 1))
        prompts = [row for row in inputs.tolist() for _ in range(repeats)]
        for index in sorted({0, len(steps) - 1}):
            ids, scores, result = steps[index]
            case = dict(config=options, max_length=14, rows_of_prompt=repeats, prompts=prompts)
            step = f"generate, {name}, step {index}"
            file.store(f"scores/{step}", scores)
            file.add(step, case | dict(ids=ids.tolist()), f"scores/{step}", scores)
            assert torch.equal(file.tensors[f"processed/{step}"], result), step


def main():
    """Writes the file."""
    torch.set_num_threads(1)
    config = StableLmConfig(**BASE, eos_token_id=None, bos_token_id=None)
    model = build(StableLmForCausalLM, config, "float32")
    file = ScoresFile(model)
    add_filters(file)
    add_content(file)
    add_combinations(file, 40)
    add_generated(file)
    file.write()


main()
