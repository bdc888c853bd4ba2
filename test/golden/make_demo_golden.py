"""Writes what transformers computes with the demo checkpoint: test/testdata/golden/demo.json.

    python test/golden/make_demo_golden.py

To be run again whenever the checkpoint is trained anew. The held-out text in testdata is never trained on.
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, StableLmForCausalLM

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "model" / "demo"
TESTDATA = ROOT / "test" / "testdata"
WINDOW, WINDOWS = 512, 4
# Those whose every choice is clear are kept.
PROMPTS = [
    "ROMEO:",
    "It is a truth universally acknowledged, that",
    "First Citizen:\nWe are",
    "JULIET:\nO",
    "The morning was",
    "KING RICHARD III:",
    "Mr. Darcy",
    "She had been",
]
LEAST_LEAD = 1e-3
TURNS = [
    {"role": "user", "content": "Who art thou?"},
    {"role": "assistant", "content": "A friend."},
    {"role": "user", "content": "What news?"},
]


def continuation(model, ids):
    """64 greedy tokens, and by how much the best logit leads the next one at least."""
    out = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False, max_new_tokens=64,
        return_dict_in_generate=True, output_logits=True,
    )
    best = torch.stack(out.logits).topk(2, dim=-1).values
    return out.sequences[0, len(ids) :].tolist(), (best[..., 0] - best[..., 1]).min().item()


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    model = StableLmForCausalLM.from_pretrained(DEMO, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    text = (TESTDATA / "held_out.txt").read_text()
    ids = tokenizer.encode(text)
    assert len(ids) > WINDOW * WINDOWS, len(ids)
    rows = torch.tensor(ids[: WINDOW * WINDOWS]).reshape(WINDOWS, WINDOW)
    output = model(rows, labels=rows)
    golden = dict(
        versions=f"transformers {transformers.__version__}, torch {torch.__version__}, eager attention, f32",
        tokens=len(ids),
        rows=rows.tolist(),
        loss=output.loss.item(),
        best=output.logits.argmax(-1).flatten().tolist(),
        greedy=[],
        chat=tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, return_dict=False),
        turns=TURNS,
    )
    for prompt in PROMPTS:
        prompt_ids = tokenizer.encode(prompt)
        tokens, lead = continuation(model, prompt_ids)
        if lead < LEAST_LEAD:
            continue
        golden["greedy"].append(dict(prompt=prompt, ids=prompt_ids, tokens=tokens, lead=lead))
    assert len(golden["greedy"]) >= 3
    (TESTDATA / "golden" / "demo.json").write_text(json.dumps(golden) + "\n")
    print({k: v for k, v in golden.items() if k in ("tokens", "loss")}, [g["lead"] for g in golden["greedy"]])
    for g in golden["greedy"]:
        print(repr(tokenizer.decode(g["ids"] + g["tokens"])))


if __name__ == "__main__":
    main()
