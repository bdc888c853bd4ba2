"""Runs transformers' `generate`, watches how clear its decisions are, and writes what it gives.

Two right implementations may differ in the last bits of a score. A run counts only where no
decision hangs on them: the model in f64 decides the same, and every choice is clear by a margin.
"""

import contextlib
import json
import unittest.mock

import torch
from transformers import PreTrainedTokenizerFast, StableLmConfig, StableLmForCausalLM

from golden_file import FOLDER, VERSIONS, build, config_json
from model_table import BASE, CAUSAL_MODELS, ROPE_MODELS
from runs import attention_of, batch_ids, padded, prompt_ids
from weight_recipe import mixed

# A model that only generation has: most tokens of its tokenizer are several bytes long, and the
# last ones of its vocabulary are none of the tokenizer's.
OWN_MODELS = {
    "wide_vocabulary": dict(
        vocab_size=1290, hidden_size=32, intermediate_size=24, num_hidden_layers=1
    ),
}
CONFIGS = {**CAUSAL_MODELS, **ROPE_MODELS, **OWN_MODELS}

TOKENIZER = FOLDER.parent / "tokenizer" / "neox.json"

# By how much a score must lead the next.
MARGINS = {
    # Of the chosen token, as a share of the largest logit: five times the widest gate of logits.
    "tokens": 5e-4,
    # Of each candidate of a beam search: sums of log-probabilities, of which f32 and f64 differ by
    # at most 3e-5 after 64 tokens.
    "beams": 5e-4,
    # Of each finished beam, as a share of the score.
    "finished": 5e-5,
}

# Outputs of which the vectors of some steps are stored.
KINDS = ("scores", "logits")
INPUTS = ("input_ids", "attention_mask", "negative_prompt_ids", "negative_prompt_attention_mask")


def allowed_by_parity(vocabulary: int):
    """A rule for `prefix_allowed_tokens_fn`: every second token, by the prompt and the last one."""

    def allowed(prompt: int, ids) -> list[int]:
        return [id for id in range(vocabulary) if (id + int(ids[-1]) + prompt) % 2 == 0]

    return allowed


class Models:
    """Models of the table by name, in f32 and f64, with the generation config of their config."""

    def __init__(self):
        self.made = {}
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))

    def config(self, name: str) -> StableLmConfig:
        return StableLmConfig(**{**BASE, **CONFIGS[name]})

    def get(self, name: str, dtype="float32"):
        # Some RoPE scalings remember how long a text has been.
        if (name, dtype) not in self.made or name in ROPE_MODELS:
            self.made[name, dtype] = build(StableLmForCausalLM, self.config(name), dtype)
        return self.made[name, dtype]


class Unclear(Exception):
    """A decision that two right implementations may take differently."""


class Watch:
    """The smallest leads that were seen, by what the margins are of."""

    def __init__(self, strict: bool):
        self.leads: dict[str, float] = {}
        self.strict = strict

    def see(self, kind: str, lead: float):
        if self.strict and lead < MARGINS[kind]:
            raise Unclear(f"{kind}: a lead of {lead:.2g}")
        self.leads[kind] = min(lead, self.leads.get(kind, lead))

    def row(self, scores: torch.Tensor, logits: torch.Tensor):
        """A greedy choice of one row."""
        finite = scores[scores > torch.finfo(torch.float32).min]
        if len(finite) > 1:
            first, second = finite.topk(2).values.tolist()
            self.see("tokens", (first - second) / logits.abs().max().item())

    def order(self, kind: str, scores: torch.Tensor, count: int):
        """The order of the best scores of each row, and what is next to them.

        Scores of -1e9 are those of places that nothing has filled.
        """
        for row in scores:
            best = row.topk(min(count + 1, len(row))).values
            best = best[best > -1e8]
            if len(best) > 1:
                leads = best[:-1] - best[1:]
                if kind == "finished":
                    leads /= best[1:].abs()
                self.see(kind, leads.min().item())

    def beams(self):
        """A context in which every decision of a beam search is seen."""
        watch = self
        continuations_of = StableLmForCausalLM._get_top_k_continuations
        finished_of = StableLmForCausalLM._update_finished_beams
        check = StableLmForCausalLM._check_early_stop_heuristic

        def continuations(model, **arguments):
            scores, beams = arguments["accumulated_log_probs"], arguments["num_beams"]
            if ((scores > -1e8).sum(-1) < beams).any():
                watch.see("beams", 0.0)  # What fills the beams is up to chance.
            watch.order("beams", scores, arguments["beams_to_keep"])
            return continuations_of(model, **arguments)

        def finished(model, **arguments):
            length = arguments["cur_len"] + 1 - arguments["decoder_prompt_len"]
            fresh = arguments["topk_log_probs"] / length ** arguments["length_penalty"]
            ends = arguments["next_token_hits_stopping_criteria"] & arguments["top_num_beam_mask"]
            ends &= arguments["is_early_stop_heuristic_unsatisfied"]
            if arguments["early_stopping"] is True:
                ends &= ~arguments["is_sent_finished"].all(-1, keepdim=True)
            both = torch.cat((arguments["beam_scores"], torch.where(ends, fresh, -1e9)), dim=1)
            watch.order("finished", both, arguments["num_beams"])
            return finished_of(model, **arguments)

        def stops(**arguments):
            length = arguments["cur_len"]
            if arguments["early_stopping"] == "never" and arguments["length_penalty"] > 0:
                length = arguments["max_length"]
            length -= arguments["decoder_prompt_len"]
            hope = arguments["running_beam_scores"][:, 0] / length ** arguments["length_penalty"]
            worst = arguments["beam_scores"].min(-1).values
            for a, b in zip(hope.tolist(), worst.tolist(), strict=True):
                if min(a, b) > -1e8:
                    watch.see("finished", abs(a - b) / abs(b))
            return check(**arguments)

        return unittest.mock.patch.multiple(
            StableLmForCausalLM,
            _get_top_k_continuations=continuations,
            _update_finished_beams=finished,
            _check_early_stop_heuristic=staticmethod(stops),
        )


def arguments_of(models: Models, name: str, dtype: str, options: dict) -> dict:
    """A run's options as `generate` takes them."""
    arguments = {key: value for key, value in options.items() if key != "prefix_allowed_tokens"}
    for key in INPUTS:
        if key in arguments:
            arguments[key] = torch.tensor(arguments[key])
    if "prefix_allowed_tokens" in options:
        assert options["prefix_allowed_tokens"] == "parity"
        vocabulary = models.config(name).vocab_size
        arguments["prefix_allowed_tokens_fn"] = allowed_by_parity(vocabulary)
    if "assistant_model" in options:
        arguments["assistant_model"] = models.get(options["assistant_model"], dtype)
    if "stop_strings" in options:
        arguments["tokenizer"] = models.tokenizer
    return arguments


@torch.no_grad()
def generate(models: Models, name: str, options: dict, dtype="float32", strict=False):
    """What `generate` returns, and what was seen; `strict` stops where that is not clear."""
    model, watch = models.get(name, dtype), Watch(strict)
    arguments = arguments_of(models, name, dtype, options)
    is_watched = not leaves_a_choice(options)
    with attention_of(model), watch.beams() if is_watched else contextlib.nullcontext():
        result = model.generate(
            **arguments, return_dict_in_generate=True, output_scores=True, output_logits=True
        )
    if is_watched and options.get("num_beams", 1) == 1:
        watch_rows(watch, models, name, options, result)
    return result, watch


def watch_rows(watch: Watch, models: Models, name: str, options: dict, result):
    """Looks at every greedy choice of a row that had not ended."""
    eos = options.get("eos_token_id", models.config(name).eos_token_id)
    eos = [] if eos is None else [eos] if isinstance(eos, int) else eos
    prompt = result.sequences.shape[1] - len(result.scores)
    for row, sequence in enumerate(result.sequences[:, prompt:].tolist()):
        for step, (scores, logits) in enumerate(zip(result.scores, result.logits, strict=True)):
            if any(id in eos for id in sequence[:step]):
                break
            # Where one token is left to draw, the logits chose it.
            watch.row(logits[row] if options.get("do_sample") else scores[row], logits[row])


class Prompts:
    """Prompts for a model by number, and what it goes on with; 0 has the ids of the other runs."""

    def __init__(self, models: Models, name: str, number: int):
        self.models, self.name, self.number = models, name, number
        self.vocabulary = models.config(name).vocab_size
        self.continued = {}

    def hashed(self, count: int, what: str) -> list[int]:
        hashes = mixed(f"{what} {self.number}", count).astype("int64")
        return (hashes % self.vocabulary).tolist()

    @property
    def ids(self) -> list[int]:
        """A prompt of eight tokens."""
        return prompt_ids(self.vocabulary) if self.number == 0 else self.hashed(8, "prompt")

    @property
    def rows(self) -> list[list[int]]:
        """Three prompts of five tokens."""
        if self.number == 0:
            return batch_ids(self.vocabulary, 5)
        return [self.hashed(5, f"row {row}") for row in range(3)]

    def batch(self, pad: int, lengths=(5, 3, 1)) -> dict:
        """The rows cut to lengths, padded on the left."""
        ids, mask = padded(self.rows[: len(lengths)], list(lengths), "left", pad)
        return dict(input_ids=ids, attention_mask=mask)

    def next(self, ids: list[int] | None = None) -> list[int]:
        """The 64 tokens that follow greedily."""
        ids = ids or self.ids
        key = tuple(ids)
        if key not in self.continued:
            model = self.models.get(self.name)
            output = model.generate(torch.tensor([ids]), max_new_tokens=64, eos_token_id=None)
            self.continued[key] = output[0, len(ids) :].tolist()
        return self.continued[key]


class GenerationFile:
    """The runs of one file."""

    TRIALS = 2000

    def __init__(self, name: str, models: Models):
        self.name, self.models = name, models
        self.runs: list[dict] = []

    def add(self, model: str, name: str, make, **expected):
        """Adds a run with the first prompts for which it shows something and is clear.

        `make` turns `Prompts` into the options of `generate`, or into None where they are of no
        use; `expected` is for `outcome`.
        """
        for number in range(self.TRIALS):
            options = make(Prompts(self.models, model, number))
            entry = options and self.outcome(model, options, **expected)
            if entry:
                self.runs.append(dict(name=name, model=model, **entry))
                return
        raise AssertionError(f"{model}: {name}: no prompts will do")

    def outcome(
        self, model: str, options: dict, keep=None, effect_of=(), ends=False, solo=False, plain=()
    ) -> dict | None:
        """A run's entry, or None where a decision is not clear or the run shows nothing.

        keep       rows by step, for `scores` and `logits`; `transitions` for those of all steps
        effect_of  options without which something else must come out
        ends       whether rows must end at different lengths, or the only row before the last step
        solo       whether each row must be what its prompt gives alone
        plain      options without which the same should come out; the file says whether it does
        """
        keep = keep or {}
        try:
            result, watch = generate(self.models, model, options, strict=True)
            if any(step >= len(result.scores) for kind in KINDS for step in keep.get(kind, ())):
                return None
            if ends and not ends_early(options, result):
                return None
            exact, _ = generate(self.models, model, options, "float64", strict=True)
        except Unclear:
            return None
        draws = leaves_a_choice(options)
        if not draws and not torch.equal(result.sequences, exact.sequences):
            return None
        if not is_sound(result) or not same_survivors(result, exact):
            return None
        if effect_of and torch.equal(result.sequences, self.without(model, options, effect_of)):
            return None
        lengths = self.solo_lengths(model, options, result) if solo else []
        if lengths is None:
            return None
        length = prompt_length(options)
        entry = dict(options=spelled_inputs(options))
        if not draws:
            entry["sequences"] = [spelled(row[length:]) for row in result.sequences.tolist()]
        entry["leads"] = {kind: float(f"{lead:.2g}") for kind, lead in watch.leads.items()}
        if solo:
            entry["solo_lengths"] = lengths
        if plain:
            greedy = self.without(model, options, plain)
            entry["equals_plain"] = torch.equal(result.sequences, greedy)
        for kind in KINDS:
            if kind in keep:
                steps = getattr(result, kind)
                entry[kind] = [
                    dict(step=step, row=row, values=vector(steps[step][row]))
                    for step, rows in keep[kind].items()
                    for row in rows
                ]
        if "sequences_scores" in result and not draws:
            entry["sequences_scores"] = vector(result.sequences_scores)
            entry["beam_indices"] = [spelled(row) for row in result.beam_indices.tolist()]
        if "transitions" in keep:
            entry["transitions"] = self.transitions(model, result)
        return entry

    def without(self, model: str, options: dict, names) -> torch.Tensor:
        """What comes out without some options."""
        left = {key: value for key, value in options.items() if key not in names}
        return generate(self.models, model, left)[0].sequences

    def solo_lengths(self, model: str, options: dict, result) -> list[int] | None:
        """How far each row goes alone, without padding; None if it goes otherwise."""
        length, lengths = prompt_length(options), []
        for index, sequence in enumerate(result.sequences[:, length:].tolist()):
            ids, mask = options["input_ids"][index], options["attention_mask"][index]
            row = [id for id, seen in zip(ids, mask, strict=True) if seen]
            solo = options | dict(input_ids=[row], attention_mask=[[1] * len(row)])
            alone = generate(self.models, model, solo)[0].sequences[0, len(row) :].tolist()
            if sequence[: len(alone)] != alone:
                return None
            lengths.append(len(alone))
        return lengths

    def transitions(self, model: str, result) -> dict:
        """The scores of the chosen tokens, as they are and as log-probabilities."""
        compute = self.models.get(model).compute_transition_scores
        arguments = (result.sequences, result.scores, result.get("beam_indices"))
        return {
            name: [vector(row) for row in compute(*arguments, normalize_logits=normalize)]
            for name, normalize in (("scores", False), ("normalized", True))
        }

    def write(self):
        """Writes the file, a line for each run."""
        names = dict.fromkeys(run["model"] for run in self.runs if run["model"] in OWN_MODELS)
        own = {name: config_json(StableLmForCausalLM, self.models.config(name)) for name in names}
        runs = ",\n".join(json.dumps(run) for run in self.runs)
        start = json.dumps(dict(made_with=VERSIONS, models=own))
        path = FOLDER / f"generation_{self.name}.json"
        path.write_text(f'{start[:-1]}, "runs": [\n{runs}\n]}}\n')
        least = {
            kind: min(run["leads"].get(kind, 1) for run in self.runs)
            for kind in dict.fromkeys(kind for run in self.runs for kind in run["leads"])
        }
        print(f"{path.name}: {len(self.runs)} runs, least leads {least}")


def leaves_a_choice(options: dict) -> bool:
    """Whether tokens are drawn from more than one; beams keep two at least."""
    alone = options.get("top_k") == 1 and options.get("num_beams", 1) == 1
    return options.get("do_sample", False) and not alone


def prompt_length(options: dict) -> int:
    """Tokens of a prompt; without one, it is the bos token."""
    return len(options["input_ids"][0]) if "input_ids" in options else 1


def ends_early(options: dict, result) -> bool:
    """Whether rows end at different lengths, or the only one before the last step."""
    eos, steps = options.get("eos_token_id"), len(result.scores)
    if len(result.sequences) == 1:
        return steps < options["max_new_tokens"]
    ids = [eos] if isinstance(eos, int) else eos
    ended = torch.isin(result.sequences[:, prompt_length(options) :], torch.tensor(ids))
    lengths = [row.tolist().index(True) if row.any() else steps for row in ended]
    return len(set(lengths)) > 1


def is_sound(result) -> bool:
    """Whether every score is a number, and every beam that is returned could be.

    A token that is ruled out and then made likelier by an exponential decay gets NaN, which counts
    as the largest score.
    """
    found = result.get("sequences_scores", torch.zeros(1))
    return found.isfinite().all() and not any(step.isnan().any() for step in result.scores)


def same_survivors(single, double) -> bool:
    """Whether f32 and f64 rule the same tokens out."""
    pairs = zip(single.scores, double.scores, strict=True)
    return all(torch.equal(a.isinf(), b.isinf()) for a, b in pairs)


def spelled_inputs(options: dict) -> dict:
    """Options with the matrices among them as text."""
    return {
        key: [spelled(row) for row in value] if key in INPUTS else value
        for key, value in options.items()
    }


def spelled(values) -> str:
    return " ".join(map(str, values))


def vector(values: torch.Tensor) -> str:
    """Numbers with as many digits as f32 has, in the words of JavaScript."""
    return spelled(f"{value:.7g}" for value in values.float().tolist()).replace("inf", "Infinity")
