"""Writes what transformers makes of texts: test/testdata/golden/texts.json.

    python test/golden/make_text_golden.py

Labels come from transformers' own pipelines, vectors from the decoder's last hidden state. The weights are the
recipe's; the tokenizer is the demo's, so this is to be run again whenever that changes.
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, StableLmConfig, StableLmModel, pipeline
from transformers import StableLmForSequenceClassification, StableLmForTokenClassification

from weight_recipe import fill

ROOT = Path(__file__).parent.parent.parent
TEXTS = [
    "To be, or not to be",
    "O",
    "Once more unto the breach, dear friends, once more; or close the wall up with our English dead.",
    "naïve 😀\n",
]
BASE = dict(
    vocab_size=4096,
    hidden_size=32,
    intermediate_size=44,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=1,
)
NAMES = dict(id2label={0: "comedy", 1: "history", 2: "tragedy"})
SEQUENCE_MODELS = {
    "single": NAMES,
    "multi": dict(NAMES, problem_type="multi_label_classification"),
    "regression": dict(NAMES, problem_type="regression"),
    "one_label": dict(num_labels=1),
}


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "model" / "demo")
    rows = [tokenizer.encode(text) for text in TEXTS]
    golden = dict(
        versions=f"transformers {transformers.__version__}, torch {torch.__version__}, eager attention, f32",
        texts=[dict(text=text, ids=ids) for text, ids in zip(TEXTS, rows)],
        sequence=[],
        token=[],
        embed=[],
    )

    for name, changes in SEQUENCE_MODELS.items():
        config = StableLmConfig(**BASE, **changes)
        model = fill(StableLmForSequenceClassification._from_config(config, attn_implementation="eager"))
        classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
        golden["sequence"].append(dict(name=name, config=config.to_dict(), results=classify(TEXTS)))

    config = StableLmConfig(**BASE, **NAMES)
    model = fill(StableLmForTokenClassification._from_config(config, attn_implementation="eager"))
    classify = pipeline("token-classification", model=model, tokenizer=tokenizer, ignore_labels=[])
    results = [
        [dict(label=token["entity"], score=float(token["score"])) for token in classify(text)] for text in TEXTS
    ]
    assert [len(result) for result in results] == [len(ids) for ids in rows]
    golden["token"].append(dict(name="token", config=config.to_dict(), results=results))

    model = fill(StableLmModel._from_config(StableLmConfig(**BASE), attn_implementation="eager"))
    # The recipe goes by the names of a checkpoint, where the decoder's begin with "model.".
    whole = fill(StableLmForSequenceClassification._from_config(StableLmConfig(**BASE), attn_implementation="eager"))
    model.load_state_dict(whole.model.state_dict())
    for ids in rows:
        states = model(torch.tensor([ids])).last_hidden_state[0]
        golden["embed"].append(dict(mean=states.mean(0).tolist(), last=states[-1].tolist()))
    path = ROOT / "test" / "testdata" / "golden" / "texts.json"
    path.write_text(json.dumps(golden, ensure_ascii=False) + "\n")
    print(path.stat().st_size, [(model["name"], model["results"][0]) for model in golden["sequence"]])


if __name__ == "__main__":
    main()
