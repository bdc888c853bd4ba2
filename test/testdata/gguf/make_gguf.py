"""Makes the files beside this script, with llama.cpp's own Python package.

    pip install gguf==0.19.0 numpy==2.4.6
    python make_gguf.py

blocks.safetensors   quantised rows of every type, and what they stand for in f32
tiny_parallel.gguf   a StableLM with norms of q and k, parallel residual, a type for each matrix
tiny_sequential.gguf a StableLM with biases of q, k and v, tied embeddings, old metadata
tiny.json            of each tensor of the two: its Hugging Face name, type, shape, and the SHA-256
                     of its values as little-endian f32

All numbers come from PCG64's raw bits, which NumPy promises not to change.
"""

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, GGMLQuantizationType as Type, TokenType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

HERE = Path(__file__).parent

# Bytes at which the f16 scales of a block lie.
SCALES_AT = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}

# Largest, subnormal, negative, negative zero: every third scale is one of them.
ODD_SCALES = np.array([65504.0, 6e-8, -3.5, -0.0], dtype=np.float16)


def raw_bytes(name, count):
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(count // 8 + 1)
    return bits.astype("<u8").view(np.uint8)[:count]


def uniform(name, shape, low, high):
    unit = raw_bytes(name, int(np.prod(shape))).reshape(shape) / 256
    return (low + (high - low) * unit).astype(np.float32)


def make_blocks(rows=2, columns=512):
    """Blocks of any bytes, so that every bit of a layout counts; only the scales are chosen."""
    tensors = {}
    for kind, places in SCALES_AT.items():
        elements, size = GGML_QUANT_SIZES[kind]
        count = rows * columns // elements
        blocks = raw_bytes(kind.name, count * size).reshape(count, size).copy()
        for place in places:
            scales = uniform(f"{kind.name} {place}", (count,), -2, 2).astype(np.float16)
            scales[::3] = np.resize(np.roll(ODD_SCALES, place // 2), len(scales[::3]))
            blocks[:, place : place + 2] = scales.view(np.uint8).reshape(count, 2)
        blocks = blocks.reshape(rows, -1)
        tensors[f"{kind.name}.blocks"] = blocks
        tensors[f"{kind.name}.values"] = dequantize(blocks, kind)
    write_safetensors(HERE / "blocks.safetensors", tensors)


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, tensor in tensors.items():
        dtype = {"uint8": "U8", "float32": "F32"}[tensor.dtype.name]
        offsets = [offset, offset + tensor.nbytes]
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": offsets}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(tensor.tobytes() for tensor in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Model:
    """Writes a GGUF file and keeps a record of what is in it, by Hugging Face's names."""

    def __init__(self, path, vocab):
        self.path = path
        self.record = {}
        self.writer = GGUFWriter(path, "stablelm")
        writer = self.writer
        writer.add_name("Tiny StableLM")
        writer.add_tokenizer_model("gpt2")
        tokens = ["<|endoftext|>", "Ġthe", "日本"]
        writer.add_token_list(tokens + [f"t{i}" for i in range(vocab - len(tokens))])
        writer.add_token_types([TokenType.CONTROL] + [TokenType.NORMAL] * (vocab - 1))
        writer.add_token_merges(["Ġ t", "Ġt he"])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        writer.add_chat_template("{{ messages[0].content }}")

    def add(self, name, hugging_face_name, shape, kind=Type.F32, heads=1):
        around = 1 if "norm.weight" in name else 0
        values = uniform(name, shape, around - 0.5, around + 0.5)
        stored = quantize(values, kind)
        if kind in (Type.F32, Type.F16):
            self.writer.add_tensor(name, stored)
        else:
            self.writer.add_tensor(name, stored, raw_dtype=kind)
        values = dequantize(stored, kind).reshape(shape)
        parts = {hugging_face_name: values}
        if "{h}" in hugging_face_name:
            parts = {hugging_face_name.format(h=head): row for head, row in enumerate(values)}
        for part, value in parts.items():
            digest = hashlib.sha256(value.astype("<f4").tobytes()).hexdigest()
            self.record[part] = f"{kind.name}{list(value.shape)} {digest}"

    def finish(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        return self.record


def make_parallel():
    vocab, hidden, inner, layers, heads, kv_heads = 96, 64, 64, 2, 4, 2
    width = hidden // heads
    model = Model(HERE / "tiny_parallel.gguf", vocab)
    writer = model.writer
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_rope_dimension_count(width // 4)
    writer.add_rope_freq_base(1e6)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_parallel_residual(True)
    writer.add_layer_norm_eps(1e-5)
    writer.add_quantization_version(2)
    writer.add_tokenizer_pre("stablelm2")
    writer.add_pad_token_id(1)
    model.add("token_embd.weight", "model.embed_tokens.weight", (vocab, hidden), Type.F16)
    for n in range(layers):
        ours, theirs = f"blk.{n}", f"model.layers.{n}"
        attention = f"{theirs}.self_attn"
        model.add(f"{ours}.attn_norm.weight", f"{theirs}.input_layernorm.weight", (hidden,))
        model.add(f"{ours}.attn_norm.bias", f"{theirs}.input_layernorm.bias", (hidden,))
        kv_shape = (kv_heads * width, hidden)
        q_shape = (hidden, hidden)
        model.add(f"{ours}.attn_q.weight", f"{attention}.q_proj.weight", q_shape, Type.Q8_0)
        model.add(f"{ours}.attn_k.weight", f"{attention}.k_proj.weight", kv_shape, Type.Q5_0)
        model.add(f"{ours}.attn_v.weight", f"{attention}.v_proj.weight", kv_shape, Type.Q5_1)
        for letter, count in (("q", heads), ("k", kv_heads)):
            name = f"{attention}.{letter}_layernorm.norms.{{h}}.weight"
            model.add(f"{ours}.attn_{letter}_norm.weight", name, (count, width))
        out = f"{ours}.attn_output.weight"
        model.add(out, f"{attention}.o_proj.weight", (hidden, hidden), Type.Q4_0)
        mlp = f"{theirs}.mlp"
        model.add(f"{ours}.ffn_gate.weight", f"{mlp}.gate_proj.weight", (inner, hidden), Type.Q4_1)
        model.add(f"{ours}.ffn_up.weight", f"{mlp}.up_proj.weight", (inner, hidden), Type.BF16)
        model.add(f"{ours}.ffn_down.weight", f"{mlp}.down_proj.weight", (hidden, inner), Type.F16)
    model.add("output_norm.weight", "model.norm.weight", (hidden,))
    model.add("output_norm.bias", "model.norm.bias", (hidden,))
    model.add("output.weight", "lm_head.weight", (vocab, hidden), Type.Q8_0)
    return model.finish()


def make_sequential():
    vocab, hidden, inner, layers, heads = 64, 32, 64, 2, 2
    model = Model(HERE / "tiny_sequential.gguf", vocab)
    writer = model.writer
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_rope_dimension_count(hidden // heads // 2)
    writer.add_head_count(heads)
    # As old converters did: no count of key heads, no base, and a residual that is not parallel.
    writer.add_parallel_residual(True)
    writer.add_layer_norm_eps(1e-5)
    model.add("token_embd.weight", "model.embed_tokens.weight", (vocab, hidden), Type.F16)
    for n in range(layers):
        ours, theirs = f"blk.{n}", f"model.layers.{n}"
        norms = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
        for gguf_name, name in norms.items():
            for kind in ("weight", "bias"):
                model.add(f"{ours}.{gguf_name}.{kind}", f"{theirs}.{name}.{kind}", (hidden,))
        attention = f"{theirs}.self_attn"
        for letter in "qkv":
            name = f"{attention}.{letter}_proj"
            shape = (hidden, hidden)
            model.add(f"{ours}.attn_{letter}.weight", f"{name}.weight", shape, Type.F16)
            model.add(f"{ours}.attn_{letter}.bias", f"{name}.bias", (hidden,))
        out = f"{ours}.attn_output.weight"
        model.add(out, f"{attention}.o_proj.weight", (hidden, hidden), Type.F16)
        mlp = f"{theirs}.mlp"
        model.add(f"{ours}.ffn_gate.weight", f"{mlp}.gate_proj.weight", (inner, hidden), Type.F16)
        model.add(f"{ours}.ffn_up.weight", f"{mlp}.up_proj.weight", (inner, hidden), Type.F16)
        model.add(f"{ours}.ffn_down.weight", f"{mlp}.down_proj.weight", (hidden, inner), Type.F16)
    model.add("output_norm.weight", "model.norm.weight", (hidden,))
    model.add("output_norm.bias", "model.norm.bias", (hidden,))
    return model.finish()


if __name__ == "__main__":
    make_blocks()
    record = {"tiny_parallel.gguf": make_parallel(), "tiny_sequential.gguf": make_sequential()}
    (HERE / "tiny.json").write_text(json.dumps(record, indent=2) + "\n")
