"""Checks tiny.gguf against an implementation that shares nothing with model.py.

    python verify.py FOLDER FILE.gguf

Reads the file with gguf.GGUFReader and runs it in NumPy, float64, written from the
formulas; compares the logits with the PyTorch model, and the vocabulary, merged by
its scores alone, with SentencePiece.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import sentencepiece as spm
import torch

from evaluate import documents, load


class File:
    """The metadata and, as float64, the tensors of a GGUF file."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.meta = {name: field.contents() for name, field in reader.fields.items()}
        self.tensors = {t.name: np.array(t.data, np.float64) for t in reader.tensors}
        self.types = {t.name: t.tensor_type.name for t in reader.tensors}

    def number(self, name):
        return self.meta["llama." + name]


def forward(file, ids):
    """Logits [time, vocab] for the token ids."""
    w, heads, kv_heads = file.tensors, file.number("attention.head_count"), file.number("attention.head_count_kv")
    eps, base = file.number("attention.layer_norm_rms_epsilon"), file.number("rope.freq_base")
    size, time = file.number("rope.dimension_count"), len(ids)

    def norm(x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight

    # A pair (2i, 2i + 1) is a complex number; to rotate it is to multiply it by e^(i angle).
    turn = np.exp(1j * np.arange(time)[:, None, None] * base ** (-np.arange(0, size, 2) / size))

    def rope(x):
        y = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([y.real, y.imag], -1).reshape(x.shape)

    x = w["token_embd.weight"][ids]
    for layer in range(file.number("block_count")):
        p = f"blk.{layer}."
        h = norm(x, w[p + "attn_norm.weight"])
        q = rope((h @ w[p + "attn_q.weight"].T).reshape(time, heads, size))
        k = rope((h @ w[p + "attn_k.weight"].T).reshape(time, kv_heads, size))
        v = (h @ w[p + "attn_v.weight"].T).reshape(time, kv_heads, size)
        mixed = np.empty((time, heads, size))
        for t in range(time):
            for head in range(heads):
                g = head * kv_heads // heads
                s = k[: t + 1, g] @ q[t, head] / np.sqrt(size)
                s = np.exp(s - s.max())
                mixed[t, head] = s @ v[: t + 1, g] / s.sum()
        x = x + mixed.reshape(time, -1) @ w[p + "attn_output.weight"].T
        h = norm(x, w[p + "ffn_norm.weight"])
        gate = h @ w[p + "ffn_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "ffn_up.weight"].T)) @ w[p + "ffn_down.weight"].T
    return norm(x, w["output_norm.weight"]) @ w["output.weight"].T


def tokenize(file, text):
    """Text to ids by the rule of llama.cpp: always merge the neighbours with the best score."""
    pieces, scores = file.meta["tokenizer.ggml.tokens"], file.meta["tokenizer.ggml.scores"]
    ids = {piece: i for i, piece in enumerate(pieces)}
    parts = list((" " + text).replace(" ", "\u2581"))
    while True:
        pairs = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ids]
        if not pairs:
            break
        i = min(pairs)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    result = []
    for part in parts:
        result += [ids[part]] if part in ids else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]
    return result


def main():
    folder, file = Path(sys.argv[1]), File(sys.argv[2])
    torch.set_num_threads(1)
    sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    model, texts = load(folder), [d["text"] for d in documents(folder)]

    for text in texts[:50] + ["Zwölf Füchse, 3.14 – ok?", "  two  spaces\n\nlines\t", "日本", "¡Olé!", "x", "12345"]:
        assert tokenize(file, text) == sp.encode(text), text
        assert sp.decode(tokenize(file, text)) == text, text
    print("tokenizer: agrees with SentencePiece")

    worst = spread = 0.0
    for text in texts[:3]:
        ids = [file.meta["tokenizer.ggml.bos_token_id"], *sp.encode(text)]
        with torch.no_grad():
            theirs = model.double()(torch.tensor([ids]))[0].numpy()
            floats = model.float()(torch.tensor([ids]))[0].numpy()
        ours = forward(file, ids)
        worst, spread = max(worst, abs(ours - theirs).max()), max(spread, abs(ours - floats).max())
        assert (ours.argmax(-1) == theirs.argmax(-1)).all()
    print(f"logits: largest difference {worst:.1e} from PyTorch in float64, {spread:.1e} in float32")
    # The rotation table is rounded to float32 in model.py, hence not 1e-12.
    assert worst < 1e-3 and spread < 1e-3
    print(f"{len(file.tensors)} tensors: {', '.join(sorted(set(file.types.values())))}")


if __name__ == "__main__":
    main()
