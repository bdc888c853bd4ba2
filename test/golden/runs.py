"""Runs: sequences of calls of one model that share a KV cache, and what is kept of their outputs.

A call is a dict. Its keys are the arguments of `forward`, as nested lists, and:

fresh        start with an empty cache (the first call of a run always does)
crop         first cut the cache down to this many positions
reorder      first put these rows of the cache in the place of row 0, 1, …
keep         names of the outputs to store
"""

import contextlib
import dataclasses
import unittest.mock

import torch
from transformers import DynamicCache
from transformers.models.stablelm import modeling_stablelm

from weight_recipe import recipe_values

ARGUMENTS = (
    "input_ids",
    "attention_mask",
    "position_ids",
    "labels",
    "shift_labels",
    "num_items_in_batch",
    "logits_to_keep",
    "use_cache",
)
INNER = ("hidden_states", "attentions", "key", "value")


@dataclasses.dataclass
class Run:
    """One run: its calls, and the outputs by call and name."""

    name: str
    calls: list[dict]
    dtype: str = "float32"


def tensor_argument(name: str, value, model):
    """A call's list as the tensor that HF takes."""
    if name in ("use_cache", "num_items_in_batch") or isinstance(value, int):
        return value
    tensor = torch.tensor(value)
    if tensor.is_floating_point():
        return tensor.to(model.dtype)
    return tensor


def embeddings(call: dict, model) -> torch.Tensor:
    """Input embeddings by the weight recipe: [batch, positions, hidden]."""
    batch, positions = call["inputs_embeds"]
    shape = (batch, positions, model.config.hidden_size)
    return recipe_values("inputs_embeds", shape).to(model.dtype)


def attention_in_f64(module, query, key, value, mask, scaling, **_):
    """Eager attention without its cast to f32, which makes minus infinity of the mask of f64."""
    key = key.repeat_interleave(module.num_key_value_groups, dim=1)
    value = value.repeat_interleave(module.num_key_value_groups, dim=1)
    weights = torch.softmax(query @ key.transpose(2, 3) * scaling + mask, dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def attention_of(model):
    """The attention that fits a model's dtype, as a context."""
    if model.dtype != torch.float64:
        return contextlib.nullcontext()
    return unittest.mock.patch.object(
        modeling_stablelm, "eager_attention_forward", attention_in_f64
    )


@torch.no_grad()
def execute(model, run: Run) -> list[dict[str, torch.Tensor]]:
    """Runs the calls; all outputs of each, by name."""
    outputs, cache = [], None
    for call in run.calls:
        arguments = {
            name: tensor_argument(name, call[name], model) for name in ARGUMENTS if name in call
        }
        if "shift_labels" in call:
            arguments["labels"] = arguments["shift_labels"]  # Without labels there is no loss.
        if "inputs_embeds" in call:
            arguments["inputs_embeds"] = embeddings(call, model)
        if cache is None or call.get("fresh"):
            cache = DynamicCache(config=model.config)
        if "crop" in call:
            cache.crop(call["crop"] - cache.get_seq_length())
        if "reorder" in call:
            cache.reorder_cache(torch.tensor(call["reorder"]))
        if call.get("use_cache", True):
            arguments["past_key_values"] = cache
        with attention_of(model):
            result = model(**arguments, output_hidden_states=True, output_attentions=True)
        outputs.append(named_outputs(result, cache))
    return outputs


def named_outputs(result, cache) -> dict[str, torch.Tensor]:
    named = {
        name: result[name] for name in ("logits", "loss", "last_hidden_state") if name in result
    }
    for kind in ("hidden_states", "attentions"):
        for index, tensor in enumerate(result[kind]):
            named[f"{kind}.{index}"] = tensor
    named.setdefault("last_hidden_state", result.hidden_states[-1])
    if cache.get_seq_length() > 0:
        named["key"], named["value"] = cache.layers[0].keys, cache.layers[0].values
    return named


def kept(call: dict, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs that the call keeps; `hidden_states` and `attentions` stand for every layer's."""
    wanted = call.get("keep", ("logits",))
    return {
        name: tensor.clone() for name, tensor in outputs.items() if name.split(".")[0] in wanted
    }


def prompt_ids(vocabulary: int) -> list[int]:
    """Eight ids; 0 and the last one are among them."""
    if vocabulary == 97:
        return [5, 17, 3, 96, 42, 8, 60, 23]
    return [0, vocabulary - 1, *((7 + 13 * i) % vocabulary for i in range(6))]


def batch_ids(vocabulary: int, positions: int) -> list[list[int]]:
    """Three rows of ids; 0 and the last one are among them."""
    rows = [[(11 + 29 * row + 17 * i) % vocabulary for i in range(positions)] for row in range(3)]
    rows[0][1], rows[1][-1], rows[2][0] = 0, vocabulary - 1, 0
    return rows


def padded(rows: list[list[int]], lengths: list[int], side: str, pad: int):
    """Rows cut to their lengths and padded, and their mask."""
    width = max(lengths)
    ids, mask = [], []
    for row, length in zip(rows, lengths, strict=True):
        fill, zeros = [pad] * (width - length), [0] * (width - length)
        ones = [1] * length
        ids.append(fill + row[:length] if side == "left" else row[:length] + fill)
        mask.append(zeros + ones if side == "left" else ones + zeros)
    return ids, mask


def causal_runs(vocabulary: int, inner: bool) -> list[Run]:
    """What every causal model is put through in f32."""
    prompt = prompt_ids(vocabulary)
    rows = batch_ids(vocabulary, 5)
    labels = [[*row[:2], -100, *row[3:]] for row in rows]
    left, left_mask = padded(rows, [5, 3, 1], "left", pad=0)
    right, right_mask = padded(rows, [5, 3, 1], "right", pad=vocabulary - 1)
    counted = [[max(0, sum(row[: i + 1]) - 1) for i in range(5)] for row in left_mask]
    next_ids = [[1], [vocabulary - 1], [0]]
    extra = INNER if inner else ()
    attended = ("logits", *(("attentions",) if inner else ()))
    return [
        Run("prompt", [dict(input_ids=[prompt], labels=[prompt], keep=("logits", "loss", *extra))]),
        Run("batch", [dict(input_ids=rows, labels=labels, keep=("logits", "loss"))]),
        Run(
            "left_padded",
            [
                dict(input_ids=left, attention_mask=left_mask, keep=attended),
                dict(input_ids=next_ids, attention_mask=[[*row, 1] for row in left_mask]),
            ],
        ),
        Run(
            "left_padded_positions",
            [
                dict(
                    input_ids=left,
                    attention_mask=left_mask,
                    position_ids=counted,
                    logits_to_keep=1,
                ),
                dict(
                    input_ids=next_ids,
                    attention_mask=[[*row, 1] for row in left_mask],
                    position_ids=[[row[-1] + 1] for row in counted],
                ),
            ],
        ),
        Run("right_padded", [dict(input_ids=right, attention_mask=right_mask)]),
        Run(
            "chunks",
            [
                dict(input_ids=[prompt[:5]]),
                dict(input_ids=[prompt[5:]], keep=attended),
                dict(input_ids=[[vocabulary - 1]]),
                dict(input_ids=[[0]]),
            ],
        ),
        Run(
            "logits_to_keep",
            [
                dict(input_ids=[prompt], logits_to_keep=1),
                dict(input_ids=[prompt], logits_to_keep=3, fresh=True),
                dict(input_ids=[prompt], logits_to_keep=[6, 0, 3], fresh=True),
            ],
        ),
        Run("without_cache", [dict(input_ids=[prompt], use_cache=False, logits_to_keep=2)]),
        Run("embeddings", [dict(inputs_embeds=[1, 8])]),
        Run(
            "positions",
            [
                dict(input_ids=[prompt], position_ids=[[3, 4, 5, 9, 10, 11, 20, 21]]),
                dict(input_ids=[[2]], position_ids=[[22]]),
            ],
        ),
        Run(
            "crop",
            [
                dict(input_ids=[prompt], keep=()),
                dict(input_ids=[prompt[2:5]], crop=5),
                dict(input_ids=[[4]], crop=1),
            ],
        ),
        Run(
            "reorder",
            [
                dict(input_ids=rows, keep=()),
                dict(input_ids=next_ids, reorder=[2, 0, 0]),
                dict(input_ids=next_ids[1:], reorder=[0, 2]),
            ],
        ),
    ]


def loss_runs(vocabulary: int) -> list[Run]:
    """Ways to count a causal loss."""
    prompt = prompt_ids(vocabulary)
    late = [-100] * 4 + prompt[4:]
    return [
        Run("labels_ignored", [dict(input_ids=[prompt], labels=[late], keep=("loss",))]),
        Run(
            "items_in_batch",
            [dict(input_ids=[prompt], labels=[late], num_items_in_batch=10, keep=("loss",))],
        ),
        Run("shift_labels", [dict(input_ids=[prompt], shift_labels=[late], keep=("loss",))]),
        Run("all_ignored", [dict(input_ids=[prompt], labels=[[-100] * 8], keep=("loss",))]),
    ]


def half_runs(vocabulary: int) -> list[Run]:
    """What the models of the f16 comparison are put through."""
    prompt = prompt_ids(vocabulary)
    left, left_mask = padded(batch_ids(vocabulary, 5), [5, 3, 1], "left", pad=0)
    return [
        Run("prompt", [dict(input_ids=[prompt])], "float16"),
        Run(
            "chunks",
            [dict(input_ids=[prompt[:5]]), dict(input_ids=[prompt[5:]]), dict(input_ids=[[0]])],
            "float16",
        ),
        Run(
            "left_padded", [dict(input_ids=left, attention_mask=left_mask)], "float16"
        ),
    ]


def rope_runs() -> list[Run]:
    """Lengths on both sides of 8, the length from which the scalings that look at it change."""
    ids = [5, 17, 3, 96, 42, 8, 60, 23, 11, 77, 2, 50]
    return [
        Run(
            "lengths",
            [
                dict(input_ids=[ids], logits_to_keep=4),
                dict(input_ids=[ids[:10]], fresh=True, logits_to_keep=1),
                dict(input_ids=[ids[:8]], fresh=True, logits_to_keep=1),
                dict(input_ids=[ids[:4]], fresh=True),
            ],
        ),
        Run(
            "growing",
            [
                dict(input_ids=[ids[:6]], logits_to_keep=1),
                *(dict(input_ids=[[id]]) for id in ids[6:]),
            ],
        ),
    ]
