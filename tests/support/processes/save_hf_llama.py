"""Makes a small Llama with random weights as Hugging Face's folder and as the GGUF file of the same model.

    python save_hf_llama.py FOLDER FILE.gguf

Q and K get llama.cpp's row order here as its converter does it, apart from Lamina's code. The folder also has a small tokenizer with a chat template.
"""

import sys

import gguf
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

FOLDER, PATH = sys.argv[1:]
LAYERS, D, F, H, KV, d, V, EPS, BASE = 2, 48, 80, 6, 2, 8, 96, 3e-5, 5000.0

torch.manual_seed(7)
config = transformers.LlamaConfig(
    vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=LAYERS, num_attention_heads=H,
    num_key_value_heads=KV, head_dim=d, rms_norm_eps=EPS, rope_parameters={"rope_type": "default", "rope_theta": BASE},
    attention_bias=True, max_position_embeddings=128, initializer_range=0.2)
model = transformers.LlamaForCausalLM(config)
for name, parameter in model.named_parameters():
    if name.endswith("bias") or "norm" in name:
        torch.nn.init.normal_(parameter, float("norm" in name), 0.3)
model.save_pretrained(FOLDER)
words = {word: i for i, word in enumerate(["<unk>", "once", "upon", "a", "time"])}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
TEMPLATE = """{% for m in messages %}{% if m.role == "tool" %}{{ raise_exception("no tools") }}{% endif %}[{{ m.role }}] {{ m.content }}
{% endfor %}"""
transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, unk_token="<unk>", chat_template=TEMPLATE).save_pretrained(FOLDER)


def permute(weights, heads):
    """As in llama.cpp's convert_hf_to_gguf.py."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


writer = gguf.GGUFWriter(PATH, "llama")
writer.add_name("saved")
writer.add_vocab_size(V)
writer.add_context_length(128)
writer.add_embedding_length(D)
writer.add_block_count(LAYERS)
writer.add_feed_forward_length(F)
writer.add_head_count(H)
writer.add_head_count_kv(KV)
writer.add_key_length(d)
writer.add_value_length(d)
writer.add_layer_norm_rms_eps(EPS)
writer.add_rope_dimension_count(d)
writer.add_rope_freq_base(BASE)
writer.add_tokenizer_model("no_vocab")
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
for name, weights in model.state_dict().items():
    weights = weights.numpy()
    if "q_proj" in name or "k_proj" in name:
        weights = permute(weights, H if "q_proj" in name else KV)
    writer.add_tensor(names.get_name(name, (".weight", ".bias")), weights)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
