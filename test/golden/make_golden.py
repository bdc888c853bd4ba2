"""Writes the golden files: what Hugging Face transformers computes for small StableLM models.

    python test/golden/make_golden.py [forward | generate]

Models have the weights of `weight_recipe.py`, attention is eager, and torch runs on one thread of
the CPU. `forward` makes the files of single calls, `generate` those of generation; without a word,
both are made.
"""

import sys

import torch
from transformers import (
    StableLmConfig,
    StableLmForCausalLM,
    StableLmForSequenceClassification,
    StableLmForTokenClassification,
    StableLmModel,
)

import known_values as known
from generation_assisted_runs import assisted
from generation_beam_runs import beams
from generation_file import Models
from generation_known import check_generation
from generation_option_runs import options
from generation_runs import greedy, sampling
from golden_file import FOLDER, GoldenFile, build
from head_models import SEQUENCE_MODELS, TOKEN_MODELS
from model_table import BASE, CAUSAL_MODELS, HALF_MODELS, INNER_MODELS, ROPE_MODELS, V4_MODELS
from runs import Run, causal_runs, half_runs, loss_runs, prompt_ids, rope_runs
from weight_recipe import fnv1a, mixed


def same(actual, expected, place: str, tolerance: float = 1e-6):
    """Stops unless numbers are the known ones to their last digit."""
    actual = torch.as_tensor(actual, dtype=torch.float64)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    error = (actual - expected).abs().max().item()
    assert actual.shape == expected.shape and error <= tolerance, f"{place}: off by {error}"


def check_recipe():
    """Holds the recipe's hashes to the known ones."""
    name = "model.embed_tokens.weight"
    assert fnv1a(name) == known.NAME_HASH
    assert mixed(name, 4).tolist() == known.ELEMENT_HASHES


def check_prompt(name: str, model, outputs: dict):
    """Holds the outputs of a model's prompt to the known numbers."""
    assert model.num_parameters() == known.PARAMETERS[name]
    for (output, *index), expected in known.PROMPT[name].items():
        row = outputs[output][tuple(index)]
        same(row[: len(expected)], expected, f"{name} {output} {index}")
    same(outputs["logits"][0, 7, 96], known.LAST_LOGIT[name], f"{name} last logit")
    logits = outputs["logits"].double()
    same([logits.sum(), logits.abs().sum()], known.SUMS[name], f"{name} sums", 2e-5)
    assert logits.argmax(-1)[0].tolist() == known.ARGMAX[name], name
    same(outputs["loss"], known.LOSS[name], f"{name} loss", 2e-7 * known.LOSS[name])


def check_converted():
    """Holds models after half() and bfloat16() to the known numbers; no file has any of them."""
    for name, dtypes in known.CONVERTED.items():
        config = StableLmConfig(**{**BASE, **CAUSAL_MODELS[name]})
        for dtype, expected in dtypes.items():
            model = build(StableLmForCausalLM, config, "float32").to(getattr(torch, dtype))
            with torch.no_grad():
                logits = model(torch.tensor([known.IDS])).logits
            same(logits[0, 7, :4], expected, f"{name} {dtype}")


def write_causal():
    """Every switch of the model, in f32."""
    for name, differences in CAUSAL_MODELS.items():
        config = StableLmConfig(**{**BASE, **differences})
        runs = causal_runs(config.vocab_size, inner=name in INNER_MODELS)
        if name == "base":
            runs += loss_runs(config.vocab_size)
        golden = GoldenFile(name)
        outputs, model = golden.add(name, StableLmForCausalLM, config, runs, v4=name in V4_MODELS)
        if name in known.PROMPT:
            check_prompt(name, model, outputs["prompt"][0])
        if name == "base":
            for run, expected in known.LOSS_RUNS.items():
                same(outputs[run][0]["loss"], expected, run)
            assert torch.isnan(outputs["all_ignored"][0]["loss"])
            with torch.no_grad():
                pair = model(
                    torch.tensor(known.PAIR_IDS), attention_mask=torch.tensor(known.PAIR_MASK)
                )
            same(pair.logits[:, -1, :4], known.PAIR_LOGITS, "left-padded pair")
        golden.write()


def write_half():
    """Models in f16 beside f64."""
    golden = GoldenFile("half")
    for name in HALF_MODELS:
        config = StableLmConfig(**{**BASE, **CAUSAL_MODELS[name]})
        golden.add(name, StableLmForCausalLM, config, half_runs(config.vocab_size))
    golden.write()


def write_base_models():
    """The decoder without a head, whose tensors' names lack the prefix `model.`."""
    golden = GoldenFile("base_models")
    for name in ("base", "parallel_qk_norm"):
        config = StableLmConfig(**{**BASE, **CAUSAL_MODELS[name]})
        kept_outputs = ("last_hidden_state", "hidden_states", "attentions")
        ids = prompt_ids(config.vocab_size)
        runs = [
            Run("prompt", [dict(input_ids=[ids], keep=kept_outputs)]),
            Run(
                "chunks",
                [
                    dict(input_ids=[ids[:5]], keep=("last_hidden_state",)),
                    dict(input_ids=[ids[5:]], keep=("last_hidden_state",)),
                ],
            ),
        ]
        golden.add(name, StableLmModel, config, runs)
    golden.write()


def write_rope():
    """RoPE scalings."""
    golden = GoldenFile("rope")
    for name, differences in ROPE_MODELS.items():
        config = StableLmConfig(**{**BASE, **differences})
        v4 = name in ("linear", "dynamic", "yarn", "llama3", "longrope")
        outputs, _ = golden.add(name, StableLmForCausalLM, config, rope_runs(), v4)
        if name not in known.ROPE:
            continue
        frequencies, scale, last, total, follow_up = known.ROPE[name]
        model = build(StableLmForCausalLM, config, "float32")
        with torch.no_grad():
            long = model(torch.tensor([[*known.IDS, 11, 77, 2, 50]])).logits
        rotary = model.model.rotary_emb
        same(rotary.inv_freq, frequencies, f"{name} frequencies", 1e-8)
        same(rotary.attention_scaling, scale, f"{name} scale", 1e-7)
        same(long[0, 11, :6], last, f"{name} logits")
        same(long.double().sum(), total, f"{name} sum", 2e-5)
        short = outputs["lengths"][-1]
        if follow_up is not None:
            same(short["logits"][0, 3, :4], follow_up, f"{name} follow-up")
    golden.write()


def write_heads():
    """Classification of sequences and of tokens."""
    golden = GoldenFile("sequence_classification")
    for name, (settings, runs) in SEQUENCE_MODELS.items():
        config = StableLmConfig(**settings)
        outputs, _ = golden.add(name, StableLmForSequenceClassification, config, runs)
        for run in runs:
            got = outputs[run.name][0]
            if (name, run.name) in known.SEQUENCE_LOGITS:
                same(got["logits"], known.SEQUENCE_LOGITS[name, run.name], f"{name} {run.name}")
            if (name, run.name) in known.SEQUENCE_LOSS:
                same(got["loss"], known.SEQUENCE_LOSS[name, run.name], f"{name} {run.name}")
    golden.write()
    golden = GoldenFile("token_classification")
    for name, (settings, runs) in TOKEN_MODELS.items():
        config = StableLmConfig(**settings)
        outputs, _ = golden.add(name, StableLmForTokenClassification, config, runs)
        if name == "three_labels":
            labels = outputs["labels"][0]
            same(labels["logits"][0, :2], known.TOKEN_LOGITS, "token logits")
            same(labels["loss"], known.TOKEN_LOSS, "token loss")
    golden.write()


def write_forward():
    """Single calls of every class."""
    check_converted()
    write_causal()
    write_half()
    write_base_models()
    write_rope()
    write_heads()


def write_generate():
    """Generation."""
    models = Models()
    check_generation(models)
    for family in (greedy, sampling, options, beams, assisted):
        family(models).write()


PARTS = {"forward": write_forward, "generate": write_generate}


def main():
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    check_recipe()
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
