"""Writes rotary_frequencies.json: the frequencies that Hugging Face's StableLM rotates by.

Run with torch 2.13.0 and transformers 5.18.0, which need no download for this:

    python make_rotary_frequencies.py

Every case is a config and a row of calls of one rotary embedding, in this order; a call is given by
its length, one more than its highest position. Results are the bits of f32 numbers, in hexadecimal.
"""

import json
import pathlib
import struct

import torch
import transformers
from transformers import StableLmConfig
from transformers.models.stablelm.modeling_stablelm import StableLmRotaryEmbedding
from transformers.utils import logging

logging.set_verbosity_error()


def heads_of(head_dim, share=0.25, **config):
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return {"hidden_size": 2 * head_dim, **heads, "partial_rotary_factor": share, **config}


def divisors(count, step):
    return [1 + step * i for i in range(count)]


def cases():
    yield from default_cases()
    yield from linear_cases()
    yield from dynamic_cases()
    yield from yarn_cases()
    yield from llama3_cases()
    yield from longrope_cases()


def default_cases():
    groups = {"num_attention_heads": 32, "num_key_value_heads": 32}
    code = {"rope_theta": 1000000, "max_position_embeddings": 16384}
    twelve = {"num_attention_heads": 32, "num_key_value_heads": 8, "rope_scaling": None}
    yield "3B", {"hidden_size": 2560, **groups, "rope_theta": 10000}, [1, 4096, 9999]
    yield "code 3B", {"hidden_size": 2560, **groups, **code}, [16384]
    yield "1.6B", {"hidden_size": 2048, **groups, "rope_theta": 10000}, [4096]
    yield "12B", {"hidden_size": 5120, **twelve, "rope_theta": 10000}, [4096]
    for theta in (1, 5, 500, 1234.5678, 500000, 1e7, 1e30):
        yield f"default, theta {theta}", heads_of(80, rope_theta=theta), [1]
    heads = ((8, 0.25), (16, 0.25), (12, 0.5), (64, 1.0), (128, 1.0), (80, 0.33), (160, 0.6))
    for head_dim, share in heads:
        yield f"default, {share} of {head_dim}", heads_of(head_dim, share), [1]


def linear_cases():
    for factor in (0.5, 1.0, 2, 3.7, 4.0, 1000):
        rope = {"type": "linear", "factor": factor}
        yield f"linear by {factor}", heads_of(80, rope_scaling=rope), [1, 5000]


def dynamic_cases():
    past = [8, 12, 9, 8, 7, 9, 30, 12, 31, 1, 2]
    for head_dim, factor in ((16, 2.0), (32, 4.5), (64, 0.5), (80, 2.0), (160, 8), (24, 1.3)):
        rope = {"rope_type": "dynamic", "factor": factor}
        config = heads_of(head_dim, max_position_embeddings=8, rope_parameters=rope)
        yield f"dynamic by {factor}, head of {head_dim}", config, past
    past = [4096, 4097, 5000, 8191, 8192, 32768, 100000, 4096, 4095]
    heads = ((80, 10000), (80, 1000000), (64, 10000), (160, 10000), (80, 1234.5678))
    for head_dim, theta in heads:
        rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": theta}
        config = heads_of(head_dim, rope_parameters=rope)
        yield f"dynamic, theta {theta}, head of {head_dim}", config, past


def yarn_cases():
    def case(name, head_dim, share, original=None, **rope):
        if original is not None:
            rope["original_max_position_embeddings"] = original
        config = heads_of(head_dim, share, rope_parameters={"rope_type": "yarn", **rope})
        return f"yarn, {name}", config, [1, 9000]

    yield case("4 from 8", 16, 0.5, 8, factor=4.0)
    yield case("3B", 80, 0.25, 4096, factor=4.0)
    yield case("3B by less than 1", 80, 0.25, 4096, factor=0.5)
    yield case("1.6B", 64, 0.25, 2048, factor=2.0)
    yield case("12B", 160, 0.25, 4096, factor=8.0)
    yield case("whole heads", 128, 1.0, 4096, factor=16.0)
    yield case("no original length", 128, 1.0, factor=3.7)
    yield case("no factor", 80, 0.5, 1000, factor=None)
    yield case("ends not rounded", 128, 1.0, 4096, factor=40, truncate=False)
    yield case("other turns", 128, 1.0, 512, factor=6.0, beta_fast=16, beta_slow=2.5)
    yield case("no width", 16, 0.5, 64, factor=6.0, beta_fast=32, beta_slow=20)
    yield case("ends out of order", 16, 0.5, 64, factor=6.0, beta_fast=1e6, beta_slow=1e5)
    yield case("a ramp past the last pair", 80, 0.25, 300, factor=4.0, rope_theta=30)
    past = {"rope_theta": 5, "beta_fast": 1e6}
    yield case("a ramp past the last element", 80, 0.25, 4096, factor=4.0, **past)
    yield case("theta 1234.5678", 128, 1.0, 777, factor=7.3, rope_theta=1234.5678)
    yield case("own attention", 80, 0.25, 1024, factor=4.0, attention_factor=0.7)
    yield case("mscale", 80, 0.25, 1024, factor=40.0, mscale=0.707, mscale_all_dim=1.0)
    yield case("mscale alone", 80, 0.25, 1024, factor=40.0, mscale=0.707)
    yield case("mscale of 0", 80, 0.25, 1024, factor=40.0, mscale=0.707, mscale_all_dim=0.0)
    rope = {"rope_type": "yarn", "factor": 4.0}
    beside = heads_of(16, 0.5, original_max_position_embeddings=100, rope_parameters=rope)
    yield "yarn, original length beside the parameters", beside, [1]


def llama3_cases():
    def case(name, head_dim, share, factor, ends, **rest):
        low, high = ends
        rope = {"factor": factor, "low_freq_factor": low, "high_freq_factor": high, **rest}
        config = heads_of(head_dim, share, rope_parameters={"rope_type": "llama3", **rope})
        return f"llama3, {name}", config, [1, 9000]

    def original(length):
        return {"original_max_position_embeddings": length}

    yield case("8 from 8", 16, 0.5, 8.0, (1.0, 4.0), **original(8))
    yield case("as published", 128, 1.0, 8.0, (1.0, 4.0), rope_theta=5e5, **original(8192))
    yield case("3B", 80, 0.25, 2.5, (1.0, 4.0), **original(1000))
    yield case("12B", 160, 0.25, 32.0, (1.3, 60.7), **original(2048))
    yield case("no original length", 64, 1.0, 8.0, (1, 4))


def longrope_cases():
    def case(name, head_dim, share, lengths, short, long, **rest):
        rope = {"rope_type": "longrope", "short_factor": short, "long_factor": long, **rest}
        return f"longrope, {name}", heads_of(head_dim, share, rope_parameters=rope), lengths

    def steps(count, short, long):
        return divisors(count, short), divisors(count, long)

    def original(length):
        return {"original_max_position_embeddings": length}

    four = ([1.0, 1.5, 2.0, 2.5], [2.0, 3.0, 4.0, 5.0])
    own = {"factor": 3, "attention_factor": 1.19, **original(2048)}
    yield case("4 from 8", 16, 0.5, [8, 9, 32, 4], *four, factor=4.0, **original(8))
    yield case("3B", 80, 0.25, [1024, 1025, 1], *steps(10, 0.05, 2.37), **original(1024))
    yield case("1.6B", 64, 0.25, [1, 4097], *steps(8, 0, 0.7), factor=0.5, **original(4096))
    yield case("own attention", 160, 0.25, [1, 5000], *steps(20, 0.01, 0.3), **own)
    yield case("no original length", 16, 0.5, [4096, 4097], *steps(4, 0.1, 0.9), factor=2.0)


def bits(number):
    return struct.pack(">f", number).hex()


def frequencies(config, lengths):
    rotary = StableLmRotaryEmbedding(StableLmConfig(**json.loads(json.dumps(config))))
    calls = []
    for length in lengths:
        rotary(torch.zeros(1), torch.tensor([[length - 1]]))
        calls.append({
            "length": length,
            "attentionScaling": bits(rotary.attention_scaling),
            "inverseFrequencies": " ".join(map(bits, rotary.inv_freq.tolist())),
        })
    return calls


if __name__ == "__main__":
    document = {
        "madeBy": "make_rotary_frequencies.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "cases": [
            {"name": name, "config": config, "calls": frequencies(config, lengths)}
            for name, config, lengths in cases()
        ],
    }
    path = pathlib.Path(__file__).with_name("rotary_frequencies.json")
    path.write_text(json.dumps(document, indent=2) + "\n")
