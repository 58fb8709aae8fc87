"""Writes the model as a GGUF file, in the layout that llama.cpp calls `llama`.

    python export.py FOLDER OUT.gguf

reads FOLDER/checkpoint.pt and FOLDER/tokenizer.model.  The file holds no date and
no path: the same checkpoint always gives the same bytes.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import sentencepiece as spm
import torch

from model import Config

# Our parameter names, and the names in the file; {} is the number of the block.
TENSORS = {
    "embed.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "head.weight": "output.weight",
}
BLOCK_TENSORS = {
    "blocks.{}.attn_norm.weight": "blk.{}.attn_norm.weight",
    "blocks.{}.attn.q.weight": "blk.{}.attn_q.weight",
    "blocks.{}.attn.k.weight": "blk.{}.attn_k.weight",
    "blocks.{}.attn.v.weight": "blk.{}.attn_v.weight",
    "blocks.{}.attn.output.weight": "blk.{}.attn_output.weight",
    "blocks.{}.ffn_norm.weight": "blk.{}.ffn_norm.weight",
    "blocks.{}.gate.weight": "blk.{}.ffn_gate.weight",
    "blocks.{}.up.weight": "blk.{}.ffn_up.weight",
    "blocks.{}.down.weight": "blk.{}.ffn_down.weight",
}


def tensor_names(cfg):
    """(our name, name in the file), in the order in which a forward pass needs them."""
    yield "embed.weight", TENSORS["embed.weight"]
    for i in range(cfg.layers):
        for ours, theirs in BLOCK_TENSORS.items():
            yield ours.format(i), theirs.format(i)
    yield "norm.weight", TENSORS["norm.weight"]
    yield "head.weight", TENSORS["head.weight"]


def add_parameters(writer, cfg):
    """What a reader must know to run the tensors."""
    writer.add_name("tiny")
    writer.add_author("Lamina")
    writer.add_license("mit")
    writer.add_description("Short English stories from a seeded grammar")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(cfg.context)
    writer.add_embedding_length(cfg.dim)
    writer.add_block_count(cfg.layers)
    writer.add_feed_forward_length(cfg.hidden)
    writer.add_head_count(cfg.heads)
    writer.add_head_count_kv(cfg.kv_heads)
    writer.add_layer_norm_rms_eps(cfg.eps)
    writer.add_rope_dimension_count(cfg.head_dim)
    writer.add_rope_freq_base(cfg.rope_base)
    writer.add_vocab_size(cfg.vocab)


def add_tokenizer(writer, sp):
    """Pieces, scores (minus the rank of the merge) and types of the vocabulary."""

    def kind(i):
        if sp.is_unknown(i):
            return gguf.TokenType.UNKNOWN
        if sp.is_control(i):
            return gguf.TokenType.CONTROL
        if sp.is_byte(i):
            return gguf.TokenType.BYTE
        return gguf.TokenType.NORMAL

    ids = range(sp.vocab_size())
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([sp.id_to_piece(i) for i in ids])
    writer.add_token_scores([sp.get_score(i) for i in ids])
    writer.add_token_types([kind(i) for i in ids])
    writer.add_unk_token_id(sp.unk_id())
    writer.add_bos_token_id(sp.bos_id())
    writer.add_eos_token_id(sp.eos_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    cfg = Config()
    weights = torch.load(folder / "checkpoint.pt", weights_only=False)["model"]
    sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert sp.vocab_size() == cfg.vocab

    writer = gguf.GGUFWriter(out, "llama")
    add_parameters(writer, cfg)
    add_tokenizer(writer, sp)
    for ours, theirs in tensor_names(cfg):
        data = weights.pop(ours).numpy()
        # Matrices as F16; the norms are few, and kept as they are.
        writer.add_tensor(theirs, data.astype(np.float16 if data.ndim == 2 else np.float32))
    assert not weights, f"left out: {list(weights)}"
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
