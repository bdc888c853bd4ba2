"""Trains the demo checkpoint with transformers' StableLmForCausalLM.

    python train.py WORK OUT [--steps N] [--decay N]

WORK is what corpus.py wrote. The learning rate warms up, stays, and decays linearly to zero over the last
steps; SIGUSR1 begins the decay at once, so that a run fits the time there is. Matrices of the layers are
trained by Muon, everything else by AdamW. Writes the checkpoint as bf16 safetensors and training.json, the
record of settings and losses, to OUT.
"""

import argparse
import json
import math
import signal
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import StableLmConfig, StableLmForCausalLM

CONFIG = dict(
    vocab_size=4096, hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=1024, partial_rotary_factor=0.25, tie_word_embeddings=True,
    bos_token_id=0, eos_token_id=0, pad_token_id=1,
)
SHARES = {"shakespeare": 0.24, "austen": 0.66, "chat": 0.1}
SEED, CONTEXT, BATCH, DROPOUT = 0, 512, 8, 0.1
RATE, MUON_RATE, DECAY_WEIGHT, WARM_UP = 3e-3, 2e-2, 0.1, 100


class Windows:
    """Windows of CONTEXT + 1 tokens from random places of the texts."""

    def __init__(self, folder, generator):
        self.texts = {n: np.load(folder / f"{n}.train.npy") for n in SHARES}
        self.generator = generator

    def batch(self):
        names = self.generator.choice(list(SHARES), size=BATCH, p=list(SHARES.values()))
        rows = []
        for text in (self.texts[name] for name in names):
            start = self.generator.integers(len(text) - CONTEXT)
            rows.append(text[start : start + CONTEXT])
        return torch.from_numpy(np.stack(rows).astype(np.int64))


@torch.no_grad()
def held_out_losses(model, folder, most=None):
    """Mean nats per token of each held-out text, in windows of CONTEXT without overlap."""
    model.eval()
    losses = {}
    for name in SHARES:
        ids = np.load(folder / f"{name}.heldout.npy").astype(np.int64)
        total = count = 0
        for start in range(0, len(ids) - 1, CONTEXT)[:most]:
            row = torch.from_numpy(ids[start : start + CONTEXT + 1])[None]
            if row.shape[1] < 2:
                continue
            logits = model(row[:, :-1]).logits.float()
            total += torch.nn.functional.cross_entropy(logits[0], row[0, 1:], reduction="sum").item()
            count += row.shape[1] - 1
        losses[name] = total / count
    model.train()
    return losses


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("work", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--steps", type=int, default=1500)
    arguments.add_argument("--decay", type=int, default=1000)
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    windows = Windows(options.work, np.random.default_rng(SEED))
    model = StableLmForCausalLM(StableLmConfig(**CONFIG, hidden_dropout=DROPOUT))
    model.train()

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=MUON_RATE, momentum=0.95, weight_decay=DECAY_WEIGHT),
        torch.optim.AdamW(rest, lr=RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    peaks = [MUON_RATE, RATE]
    steps = options.steps

    def decay_now(*_):
        nonlocal steps
        steps = min(steps, step + options.decay)

    signal.signal(signal.SIGUSR1, decay_now)
    history, step, begun = [], 0, time.time()
    while step < steps:
        factor = min(1.0, (step + 1) / WARM_UP, (steps - step) / options.decay)
        for optimizer, peak in zip(optimizers, peaks):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ids = windows.batch()
            loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 250 == 0:
            losses = held_out_losses(model, options.work, most=8)
            seconds = time.time() - begun
            history.append(dict(step=step, loss=loss.item(), held_out=losses, seconds=round(seconds)))
            rates = " ".join(f"{n} {v:.3f}" for n, v in losses.items())
            print(f"{step} loss {loss.item():.3f} held out: {rates}, {step * BATCH * CONTEXT / seconds:.0f} tokens/s", flush=True)
            model.save_pretrained(options.out / "latest")

    model.config.hidden_dropout = 0.0
    model = model.to(torch.bfloat16)
    model.config.dtype = "bfloat16"
    model.save_pretrained(options.out)
    losses = held_out_losses(model.float(), options.work)
    record = dict(
        torch=torch.__version__, transformers=transformers.__version__, parameters=model.num_parameters(),
        seed=SEED, context=CONTEXT, batch=BATCH, dropout=DROPOUT, steps=step, decay=options.decay, warm_up=WARM_UP,
        tokens=step * BATCH * CONTEXT, shares=SHARES, muon_rate=MUON_RATE, adam_rate=RATE, weight_decay=DECAY_WEIGHT,
        held_out_loss=losses, held_out_perplexity={n: math.exp(v) for n, v in losses.items()},
        history=history,
    )
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(losses))


if __name__ == "__main__":
    main()
