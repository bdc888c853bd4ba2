"""The golden models: small configs that between them set every switch of StableLM both ways."""

BASE = dict(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=44,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=64,
)

# What differs from BASE, by name. Sizes that are no multiple of 4 or 8 are so on purpose.
CAUSAL_MODELS = {
    "base": {},
    "qkv_bias": dict(use_qkv_bias=True),
    "parallel_qk_norm": dict(
        hidden_size=96, num_key_value_heads=2, qk_layernorm=True, use_parallel_residual=True
    ),
    "tied_gelu": dict(hidden_act="gelu", tie_word_embeddings=True, partial_rotary_factor=0.5),
    # The head sizes of the released models: 80, of which 20 turn (3B), 64 and 16 (1.6B), 160 and 40
    # (12B).
    "head_80": dict(
        vocab_size=63,
        hidden_size=160,
        intermediate_size=56,
        num_attention_heads=2,
        num_key_value_heads=2,
        rope_theta=1e6,
    ),
    "head_64": dict(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=52,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_qkv_bias=True,
    ),
    "head_160": dict(
        vocab_size=50,
        hidden_size=320,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        qk_layernorm=True,
        use_parallel_residual=True,
    ),
    # Heads of 8 of which 2 channels turn: the two halves of the rotation are one channel each.
    "grouped_8_2": dict(vocab_size=80, num_attention_heads=8, num_key_value_heads=2),
    "parallel_bias": dict(
        vocab_size=101,
        intermediate_size=46,
        num_hidden_layers=3,
        use_parallel_residual=True,
        use_qkv_bias=True,
    ),
    # An eps so large that leaving it out of the norms of the heads shows.
    "sequential_qk_norm": dict(
        vocab_size=90, num_key_value_heads=2, qk_layernorm=True, layer_norm_eps=0.05
    ),
    "tied_parallel": dict(
        vocab_size=79,
        hidden_act="gelu_new",
        tie_word_embeddings=True,
        use_parallel_residual=True,
        num_hidden_layers=1,
    ),
    "gelu_tanh": dict(vocab_size=83, hidden_act="gelu_pytorch_tanh", num_hidden_layers=3),
    # All channels turn; the padding row is a row like the others.
    "relu_full_rotation": dict(
        vocab_size=75, hidden_act="relu", partial_rotary_factor=1.0, pad_token_id=0
    ),
    "half_rotation": dict(
        vocab_size=71,
        hidden_size=60,
        intermediate_size=37,
        num_attention_heads=3,
        num_key_value_heads=3,
        partial_rotary_factor=0.5,
    ),
    "multi_query": dict(vocab_size=69, num_key_value_heads=1, eos_token_id=[0, 68]),
    # 18 · 0.25 = 4.5 channels, of which 4 turn.
    "odd_sizes": dict(
        vocab_size=65,
        hidden_size=54,
        intermediate_size=29,
        num_attention_heads=3,
        num_key_value_heads=1,
        use_qkv_bias=True,
        qk_layernorm=True,
    ),
}

# Models that run in f16 too, beside an f64 run that says which of two f16 results is nearer.
HALF_MODELS = ("base", "qkv_bias", "parallel_qk_norm", "tied_gelu", "head_80", "head_160")

# Models whose inner tensors are kept too.
INNER_MODELS = ("base", "parallel_qk_norm", "head_80", "sequential_qk_norm", "multi_query")

# Models whose config is kept in the form of transformers 4 too.
V4_MODELS = ("base", "qkv_bias", "parallel_qk_norm", "tied_gelu", "head_80", "multi_query")

ROPE = dict(partial_rotary_factor=0.5, max_position_embeddings=32)
SHORT = [1.0, 1.5, 2.0, 2.5]
LONG = [2.0, 3.0, 4.0, 5.0]
WIDE_THETA = dict(rope_theta=1e6)

ROPE_MODELS = {
    "default": dict(ROPE),
    "default_1e6": dict(ROPE, **WIDE_THETA),
    "linear": dict(ROPE, rope_scaling=dict(type="linear", factor=4.0)),
    "dynamic": dict(
        ROPE, max_position_embeddings=8, rope_scaling=dict(type="dynamic", factor=2.0)
    ),
    "yarn": dict(
        ROPE,
        rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=8),
    ),
    "yarn_mscale": dict(
        ROPE,
        partial_rotary_factor=1.0,
        max_position_embeddings=256,
        rope_scaling=dict(
            rope_type="yarn",
            factor=4.0,
            original_max_position_embeddings=64,
            mscale=0.7,
            mscale_all_dim=1.2,
            beta_fast=1.5,
            beta_slow=0.25,
            truncate=False,
        ),
    ),
    "yarn_attention_factor": dict(
        ROPE,
        partial_rotary_factor=1.0,
        rope_scaling=dict(
            rope_type="yarn",
            factor=2.0,
            original_max_position_embeddings=16,
            attention_factor=0.8,
            beta_fast=2,
            beta_slow=0.5,
        ),
    ),
    "llama3": dict(
        ROPE,
        rope_scaling=dict(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=8,
        ),
    ),
    "longrope": dict(
        ROPE,
        rope_scaling=dict(
            rope_type="longrope",
            factor=4.0,
            original_max_position_embeddings=8,
            short_factor=SHORT,
            long_factor=LONG,
        ),
    ),
    "longrope_attention_factor": dict(
        ROPE,
        rope_scaling=dict(
            rope_type="longrope",
            attention_factor=1.1,
            original_max_position_embeddings=8,
            short_factor=SHORT,
            long_factor=LONG,
        ),
    ),
}
