"""Which config keys are sizes, and how small each may get: data for `shrink`. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Probe geometry: three windows fit into the sequence, so windows one token too narrow or too wide show.
SEQUENCE = 24
WINDOW = 8
HEADS = 4
KV_HEADS = 2
VOCAB = 128
FEED_FORWARD = 64
POSITIONS = 256
EXPERTS = 4
TOP_K = 2
RANK = 32
STATE = 16
MIN_LAYERS = 2

#: Longest prefix of layers that is kept whole; a longer one is thinned to the first layer of every kind instead.
MAX_PREFIX = 12

#: Keys that hold a number of layers (14 spellings).
LAYERS = _words(
    "num_hidden_layers n_layer n_layers num_layers layers num_blocks encoder_layers decoder_layers num_encoder_layers "
    "num_decoder_layers encoder_num_hidden_layers decoder_num_hidden_layers t2u_encoder_layers t2u_decoder_layers "
    "speech_encoder_layers depth num_self_attends_per_block"
)

#: Those that say how deep the decoder (or only) stack is, in the order of preference.
LAYER_COUNT = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "num_decoder_layers",
    "layers",
)

#: Layers that only repeat what others show, or predict further tokens: none are needed.
NO_LAYERS = _words("num_kv_shared_layers num_mtp_layers num_nextn_predict_layers mtp_num_layers mtp_num_hidden_layers")

#: Lists with one entry a layer that decide what kind of attention the layer has.
KIND_LISTS = (
    "layer_types",
    "layers_block_type",
    "no_rope_layers",
    "indexer_types",
    "block_types",
    "attention_layers",
    "attn_layers",
    "hybrid_override_pattern",
    "hybrid_layer_pattern",
    "compress_ratios",
)

#: Distance between two layers of the rarer kind: one whole period is kept.
PERIODS = _words(
    "attn_layer_period full_attention_interval global_attn_every_n_layers sliding_window_pattern "
    "no_rope_layer_interval layer_group_size cross_attention_frequency cross_layer_interval full_attn_every_n_layers "
    "local_layer_interval"
)

#: Lists of the indices of layers of the rarer kind.
INDEX_LISTS = _words(
    "full_attn_idxs attn_layer_indices global_attn_indexes full_attention_layers cross_attention_layers moe_layers "
    "mlp_only_layers local_layer_ids swa_layers kv_source_layers ple_layer_ids rope_scaling_layers "
    "deepstack_visual_indexes deepstack_layer_map target_layer_ids mtp_local_layer_ids"
)

#: Index lists that decide the kind of attention: one entry must survive. The others may become empty.
NEEDED_INDEX_LISTS = _words(
    "full_attn_idxs attn_layer_indices global_attn_indexes full_attention_layers cross_attention_layers "
    "local_layer_ids swa_layers"
)

#: Windows and chunks in tokens. `window_size` counts in text configs only; vision towers are not touched.
WINDOWS = _words(
    "sliding_window sliding_window_size attention_window_size local_attention attention_chunk_size attention_window "
    "window_size sliding_window_sizes local_window_size swa_window_size encoder_sliding_window "
    "decoder_sliding_window"
)

HEAD_DIMS = _words(
    "head_dim kv_channels d_kv d_head dim_head attention_head_dim attention_head_size v_head_dim qk_nope_head_dim "
    "index_head_dim indexer_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim swa_head_dim "
    "swa_v_head_dim attention_hidden_size_per_head mamba_head_dim mamba_d_head qk_rope_head_dim"
)
WIDE_HEAD_DIMS = frozenset(("qk_head_dim", "global_head_dim"))

SSM_HEADS = frozenset(("mamba_n_heads", "n_mamba_heads", "mamba_num_heads"))

ROTARY_DIMS = frozenset(("rotary_dim", "rotary_ndims", "rope_dim"))

POSITION_KEYS = _words(
    "max_position_embeddings n_positions n_ctx max_seq_len max_seq_length seq_length context_length "
    "max_target_positions max_source_positions max_2d_position_embeddings max_encoder_position_embeddings "
    "max_decoder_position_embeddings max_sequence_length max_position mem_len rel_extent"
)

EXPERT_COUNTS = _words(
    "num_experts num_local_experts n_routed_experts moe_num_experts num_routed_experts zero_expert_num num_zero_experts"
)
TOP_KS = _words(
    "num_experts_per_tok num_experts_per_token moe_topk moe_k top_k_experts moe_top_k experts_per_token top_k "
    "num_selected_experts"
)
ONES = _words(
    "n_group topk_group num_expert_group moe_n_group n_groups mamba_n_groups mamba_ngroups first_k_dense_replace "
    "num_dense_layers n_shared_experts num_shared_experts moe_num_shared_experts first_last_k_dense"
)
RANKS = _words("q_lora_rank kv_lora_rank o_lora_rank lora_rank adapter_rank embedding_rank hc_lowrank moe_latent_size")
STATES = _words("mamba_d_state ssm_state_size state_size d_state time_step_rank mamba_dt_rank")
CHUNKS = _words("mamba_chunk_size chunk_size")

FEED_FORWARDS = re.compile(
    r"intermediate_size|ffn_dim|ffn_hidden|(^|_)d_ff$|d_inner|n_inner|feed_forward_size|ffn_size|expert_dim"
    r"|^dff$|^hidden_dim$|moe_hidden_size|ffn_inner|mlp_hidden_size|expert_hidden_size|classifier_proj_size|prompt_mid_dim"
)
HEAD_COUNTS = re.compile(r"(^|_)heads$|^n_head$|num_attention_heads|attention_heads$|heads_per_layer$")
KV_COUNTS = re.compile(r"key_value_heads|kv_heads|kv_n_heads|n_head_kv|multi_query_group_num|key_value_attention_heads")
VOCABS = re.compile(r"vocab_size(?!s)|ngram_vocab_size_base")
TOKENS = re.compile(r"(_token_id|_token_ids|_token_index|_token_idx)$")

#: Tokens without which some classes do not run, and the ids they get.
NEEDED_TOKENS = {"pad_token_id": 0, "mask_token_id": 60}

#: Keys of sub-configs whose name does not end in `_config`.
SUB_CONFIGS = _words("encoder decoder generator text_encoder audio_encoder")
VISION = re.compile(r"vision|image|audio|visual|speech|vq_|video|perceiver|resampler|qformer|projector")

#: The name of the number of query heads, in the order of preference.
HEADS_KEYS = (
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_heads",
    "attention_heads",
    "decoder_attention_heads",
    "num_decoder_attention_heads",
    "encoder_attention_heads",
)

#: Ints equal to the hidden size that are nevertheless no width.
NOT_WIDTHS = re.compile(r"position|token|vocab|length|window|chunk|_len$|topk|top_k|layers|heads|head_dim|budget")

#: The name of the hidden size, in the order of preference.
HIDDEN = ("hidden_size", "d_model", "n_embd", "embed_dim", "dim", "emb_dim", "model_dim", "d_latents")

#: Keys of the file that say how the checkpoint is stored or which code loads it: no attention decision is in them.
STORAGE = _words(
    "quantization_config compression_config auto_map torch_dtype dtype _attn_implementation attn_implementation "
    "_attn_implementation_internal _flash_attn_2_enabled _name_or_path name_or_path transformers_version "
    "_commit_hash architectures id2label label2id task_specific_params tokenizer_class generation_config "
    "base_model_tp_plan num_labels"
)


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder.

    head_dim None keeps widths and heads as they are ("native"). fill: see `shrink`; only for classes that do not build
    from their own defaults.
    """

    name: str
    head_dim: int | None
    fill: bool = False

    @property
    def title(self) -> str:
        """For reasons: "head width 16, open sizes filled in"."""
        return f"head width {self.name}{', open sizes filled in' if self.fill else ''}"


LADDER = (
    Rung("16", 16),
    Rung("16", 16, fill=True),
    Rung("32", 32),
    Rung("64", 64),
    Rung("128", 128),
    Rung("native", None),
)
