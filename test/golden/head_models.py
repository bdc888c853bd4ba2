"""The classification models and their runs: pooling rules, problem types and losses."""

from model_table import BASE
from runs import Run

IDS = [5, 17, 3, 96, 42, 8, 60, 23]
PADDED = [5, 17, 3, 96, 42, 1, 1, 1]
LEFT = [1, 1, 1, 5, 17, 3, 96, 42]
LEFT_MASK = [0, 0, 0, 1, 1, 1, 1, 1]
SCORED = ("logits", "loss")


def one(name: str, **call) -> Run:
    """A run of one call that keeps the logits, and the loss where labels are given."""
    return Run(name, [dict(call, keep=SCORED)])


SEQUENCE_MODELS = {
    "three_labels": (
        dict(BASE, num_labels=3, pad_token_id=1),
        [
            one("single_label", input_ids=[IDS, PADDED], labels=[2, 0]),
            one("ignored_label", input_ids=[IDS, PADDED], labels=[-100, 1]),
            one("unpadded", input_ids=[PADDED[:5]]),
            one("left_padded", input_ids=[LEFT], attention_mask=[LEFT_MASK]),
            one("left_padded_without_mask", input_ids=[LEFT]),
            one("pad_inside", input_ids=[[5, 1, 17, 1, 1]]),
            one("all_pad", input_ids=[[1, 1, 1, 1]]),
            one("embeddings", inputs_embeds=[2, 8], labels=[1, 2]),
        ],
    ),
    "multi_label": (
        dict(BASE, num_labels=3, pad_token_id=1),
        [
            one(
                "multi_label",
                input_ids=[IDS, PADDED],
                labels=[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]],
            )
        ],
    ),
    "one_label": (
        dict(BASE, num_labels=1, pad_token_id=1),
        [
            one("regression", input_ids=[IDS, PADDED], labels=[0.5, -1.0]),
            one("one_row", input_ids=[IDS], labels=[0.25]),
        ],
    ),
    "regression_of_three": (
        dict(BASE, num_labels=3, pad_token_id=1, problem_type="regression"),
        [
            one(
                "regression",
                input_ids=[IDS, PADDED],
                labels=[[0.5, -1.0, 2.0], [0.0, 1.5, -0.25]],
            )
        ],
    ),
    "no_pad": (
        dict(BASE, num_labels=3),
        [
            one("padded", input_ids=[PADDED], labels=[1]),
            one("embeddings", inputs_embeds=[1, 8]),
        ],
    ),
    # 0 is an id like the others, also as padding.
    "pad_0": (
        dict(BASE, num_labels=3, pad_token_id=0),
        [
            one(
                "single_label",
                input_ids=[[5, 17, 3, 0, 0], [0, 0, 96, 42, 8], [0, 0, 0, 0, 0]],
                labels=[0, 1, 2],
            )
        ],
    ),
    "multi_label_parallel": (
        dict(
            BASE,
            num_labels=4,
            pad_token_id=96,
            problem_type="multi_label_classification",
            use_parallel_residual=True,
            qk_layernorm=True,
        ),
        [
            one(
                "multi_label",
                input_ids=[IDS, [96, 96, *IDS[:3], 96, 96, 96]],
                attention_mask=[[1] * 8, [0, 0, 1, 1, 1, 0, 0, 0]],
                labels=[[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 0.0, 0.25]],
            )
        ],
    ),
}

TOKEN_MODELS = {
    "three_labels": (
        dict(BASE, num_labels=3),
        [
            one("labels", input_ids=[IDS], labels=[[0, 1, 2, 0, -100, 2, 1, 0]]),
            one(
                "left_padded",
                input_ids=[LEFT, IDS],
                attention_mask=[LEFT_MASK, [1] * 8],
                labels=[[-100, -100, -100, 2, 2, 0, 1, 1], [0, 1, 2, 0, -100, 2, 1, 0]],
            ),
            one("all_ignored", input_ids=[IDS], labels=[[-100] * 8]),
            one("embeddings", inputs_embeds=[2, 8]),
        ],
    ),
    "five_labels": (
        dict(BASE, num_labels=5, use_qkv_bias=True, classifier_dropout=0.5),
        [one("labels", input_ids=[IDS], labels=[[4, 0, 3, 1, 2, 2, 0, 4]])],
    ),
}
