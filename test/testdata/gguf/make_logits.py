"""Makes tiny_logits.safetensors: what Hugging Face's StableLM computes from the GGUF files beside it.

    pip install gguf==0.19.0 numpy==2.4.6 torch==2.13.0 transformers==5.18.0
    python make_logits.py

The configs are written out here and not read from the files, and the tensors are named here, so that
nothing rests on a reader of GGUF but the package's own. (The loader of transformers leaves the norms of q
and k and the base of the frequencies out.)
"""

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import StableLmConfig, StableLmForCausalLM

from make_gguf import HERE, write_safetensors

IDS = [5, 17, 3, 60, 42, 8, 50, 23]

CONFIGS = {
    "tiny_parallel.gguf": StableLmConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        qk_layernorm=True,
        use_parallel_residual=True,
        max_position_embeddings=128,
        rope_parameters={"rope_theta": 1e6, "partial_rotary_factor": 0.25, "rope_type": "default"},
    ),
    "tiny_sequential.gguf": StableLmConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_qkv_bias=True,
        tie_word_embeddings=True,
        max_position_embeddings=64,
        rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5, "rope_type": "default"},
    ),
}

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def weights_of(file):
    weights = {}
    for tensor in GGUFReader(HERE / file).tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        values = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        value = torch.tensor(np.array(values, dtype=np.float32))
        *layer, part, kind = tensor.name.split(".")
        prefix = f"model.layers.{layer[1]}." if layer else ""
        if part in ("attn_q_norm", "attn_k_norm"):
            for head, row in enumerate(value):
                name = f"self_attn.{part[5]}_layernorm.norms.{head}.weight"
                weights[prefix + name] = row
        else:
            weights[f"{prefix}{NAMES[part]}.{kind}"] = value
    return weights


def logits_of(file):
    config = CONFIGS[file]
    model = StableLmForCausalLM(config).eval()
    weights = weights_of(file)
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, strict=True)
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits.numpy()


if __name__ == "__main__":
    tensors = {file: logits_of(file) for file in CONFIGS}
    write_safetensors(HERE / "tiny_logits.safetensors", tensors)
