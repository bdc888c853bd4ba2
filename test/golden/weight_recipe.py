"""The weights of the golden models: a hash of a tensor's name and an element's index.

Every value is a multiple of a small power of two, so f32, f16 and bf16 hold all of them exactly,
and `test/recipe.ts` makes the same ones without a file.
"""

import numpy
import torch


def fnv1a(name: str) -> int:
    """FNV-1a, 32 bits, of an ASCII name."""
    value = 0x811C9DC5
    for byte in name.encode("ascii"):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def mixed(name: str, count: int) -> numpy.ndarray:
    """The first `count` 32-bit hashes of a name."""
    x = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(0x9E3779B1)
    x = x + numpy.uint32(fnv1a(name))
    x ^= x >> numpy.uint32(16)
    x *= numpy.uint32(0x85EBCA6B)
    x ^= x >> numpy.uint32(13)
    x *= numpy.uint32(0xC2B2AE35)
    x ^= x >> numpy.uint32(16)
    return x


def recipe_values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The f64 tensor that belongs to a name."""
    x = mixed(name, int(numpy.prod(shape)))
    eighth = (x >> numpy.uint32(24)) / 256 - 0.5
    sixth = (x >> numpy.uint32(26)) / 64 - 0.5
    if "norm" in name:
        values = 1 + sixth if name.endswith("weight") else 0.5 * eighth
    elif "embed_tokens" in name:
        values = 2 * eighth
    elif name.endswith("bias"):
        values = eighth
    else:
        values = 0.5 * eighth
    return torch.from_numpy(values.reshape(shape))


def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Overwrites all weights of a model in place; a tied head shares the embedding's."""
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not (tied and name == "lm_head.weight"):
                tensor.copy_(recipe_values(name, tuple(tensor.shape)))
    return model.eval()
