"""Somebody's own Llama in PyTorch, with one mistake in it. Notebook 9 finds the mistake.

    python my_llama.py FILE.gguf FOLDER IDS [--rope adjacent|half]

runs the prompt IDS (numbers, separated by commas) and writes tensors of the pass into FOLDER, for Lamina to judge.
"""
import argparse, pathlib, sys

import gguf, torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "checkpoints/references/engine_folder/dumpers"))
from dump import Dump

parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("folder")
parser.add_argument("ids")
parser.add_argument("--rope", default="half")
args = parser.parse_args()

reader = gguf.GGUFReader(args.file)
weights = {t.name: torch.tensor(gguf.dequantize(t.data, t.tensor_type)) for t in reader.tensors}
value = lambda key: reader.fields[f"llama.{key}"].contents()
layers, heads, kv_heads = value("block_count"), value("attention.head_count"), value("attention.head_count_kv")
epsilon, base = value("attention.layer_norm_rms_epsilon"), value("rope.freq_base")
ids = [int(i) for i in args.ids.split(",")]


def norm(x, name):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weights[f"{name}.weight"]


def linear(x, name):
    return x @ weights[f"{name}.weight"].T


def rope(x):  # [position, head, feature]
    width = x.shape[-1]
    frequencies = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = (torch.arange(len(x))[:, None] * frequencies)[:, None, :]
    cos, sin = angles.cos().float(), angles.sin().float()
    if args.rope == "adjacent":
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


dump = Dump(args.folder, model=pathlib.Path(args.file).name, rope="adjacent")
dump.begin(step=0, start=0, ids=ids)

x = weights["token_embd.weight"][ids]
for layer in range(layers):
    at = f"blk.{layer}"
    a = norm(x, f"{at}.attn_norm")
    q, k, v = (linear(a, f"{at}.attn_{m}").unflatten(-1, (n, -1)) for m, n in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
    q_rope, k_rope = rope(q), rope(k)
    keys, values = (t.repeat_interleave(heads // kv_heads, 1) for t in (k_rope, v))
    scores = torch.einsum("qhd,khd->hqk", q_rope, keys) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(torch.ones(len(ids), len(ids)).triu(1).bool(), -torch.inf)
    probs = scores.softmax(-1)
    mix = torch.einsum("hqk,khd->qhd", probs, values)
    x = x + linear(mix.flatten(-2), f"{at}.attn_output")
    dump.tensor(f"{at}.q", q)
    dump.tensor(f"{at}.k", k)
    dump.tensor(f"{at}.v", v)
    dump.tensor(f"{at}.q_rope", q_rope)
    dump.tensor(f"{at}.k_rope", k_rope)
    dump.tensor(f"{at}.attn_probs", probs)
    dump.tensor(f"{at}.ffn_inp", x)
    f = norm(x, f"{at}.ffn_norm")
    x = x + linear(torch.nn.functional.silu(linear(f, f"{at}.ffn_gate")) * linear(f, f"{at}.ffn_up"), f"{at}.ffn_down")
    dump.tensor(f"{at}.out", x)
dump.tensor("logits", linear(norm(x, "output_norm"), "output"))
dump.end()
