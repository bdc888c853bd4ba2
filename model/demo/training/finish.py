"""Makes the folder of the demo checkpoint of what train.py and corpus.py wrote.

    python finish.py WORK RUN DEMO

Weights are rounded to bf16. Everything that transformers needs to load the folder is in it.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, StableLmForCausalLM

from train import held_out_losses

TEMPLATE = """{%- for turn in messages %}
{{- '<|' + turn.role + '|>\\n' + turn.content + eos_token + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>\\n' }}
{%- endif %}
"""


def main():
    arguments = argparse.ArgumentParser()
    for name in ("work", "run", "demo"):
        arguments.add_argument(name, type=Path)
    options = arguments.parse_args()

    model = StableLmForCausalLM.from_pretrained(options.run, dtype=torch.bfloat16)
    model.config.hidden_dropout = 0.0
    model.generation_config = GenerationConfig(
        bos_token_id=0, eos_token_id=0, pad_token_id=1, do_sample=True, temperature=0.8, top_k=50, top_p=0.95,
        max_new_tokens=200,
    )
    model.save_pretrained(options.demo)

    shutil.copy(options.work / "tokenizer.json", options.demo / "tokenizer.json")
    (options.demo / "chat_template.jinja").write_text(TEMPLATE)
    config = dict(
        tokenizer_class="PreTrainedTokenizerFast", bos_token="<|endoftext|>", eos_token="<|endoftext|>",
        pad_token="<|padding|>", padding_side="left", clean_up_tokenization_spaces=False, model_max_length=1024,
    )
    (options.demo / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

    # What was written is what is measured.
    model = StableLmForCausalLM.from_pretrained(options.demo, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(options.demo)
    turns = [dict(role="user", content="Who art thou?")]
    rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert rendered == "<|user|>\nWho art thou?<|endoftext|>\n<|assistant|>\n", rendered
    losses = held_out_losses(model, options.work)
    bytes_ = {n: (options.work / f"{n}.heldout.txt").stat().st_size for n in losses}
    record = json.loads((options.run / "training.json").read_text())
    record["held_out_bf16"] = {
        n: dict(loss=loss, perplexity=float(torch.tensor(loss).exp()), bytes=bytes_[n]) for n, loss in losses.items()
    }
    (options.demo / "training" / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["held_out_bf16"], indent=1))


if __name__ == "__main__":
    main()
