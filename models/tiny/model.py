"""The network: a Llama-2 decoder in plain PyTorch, small enough to read in one sitting.

Everything follows the layout that llama.cpp calls `llama`, so that the exporter
can copy the matrices as they are: no biases, RMSNorm before each block, SwiGLU,
grouped key/value heads, and rotary embedding on ADJACENT pairs of features
(0,1), (2,3), ...  (Models that rotate feature i with i + head/2 instead need
their query and key rows permuted on export; this one does not.)
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass(frozen=True)
class Config:
    """The shape.  Every row width (256, 512) is a multiple of 256, the block
    size of the k-quants, so that each matrix fits every quantization."""

    dim: int = 256
    hidden: int = 512
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    vocab: int = 1024
    context: int = 1024
    eps: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


def rope_table(cfg: Config) -> torch.Tensor:
    """cos and sin of position * frequency: [context, head_dim / 2, 2].

    Computed in float64 and rounded once, so that late positions stay exact."""
    i = torch.arange(0, cfg.head_dim, 2, dtype=torch.float64)
    freq = cfg.rope_base ** (-i / cfg.head_dim)
    angle = torch.arange(cfg.context, dtype=torch.float64)[:, None] * freq
    return torch.stack([angle.cos(), angle.sin()], dim=-1).float()


def rotate(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rotates the adjacent pairs of x [batch, time, heads, head_dim]."""
    pairs = x.unflatten(-1, (-1, 2))
    cos, sin = table[: x.shape[1], None, :, 0], table[: x.shape[1], None, :, 1]
    a, b = pairs[..., 0], pairs[..., 1]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


class Attention(nn.Module):
    """Causal self-attention; two query heads share each key/value head."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        kv = cfg.kv_heads * cfg.head_dim
        self.q = nn.Linear(cfg.dim, cfg.dim, bias=False)
        self.k = nn.Linear(cfg.dim, kv, bias=False)
        self.v = nn.Linear(cfg.dim, kv, bias=False)
        self.output = nn.Linear(cfg.dim, cfg.dim, bias=False)

    def project(self, x, table):
        """Queries, keys and values as [batch, heads, time, head_dim]."""
        q = rotate(self.q(x).unflatten(-1, (-1, self.cfg.head_dim)), table)
        k = rotate(self.k(x).unflatten(-1, (-1, self.cfg.head_dim)), table)
        v = self.v(x).unflatten(-1, (-1, self.cfg.head_dim))
        # Query head h reads key/value head h // 2, as in llama.cpp.
        group = self.cfg.heads // self.cfg.kv_heads
        k, v = (t.repeat_interleave(group, dim=2) for t in (k, v))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x, table):
        q, k, v = self.project(x, table)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(y.transpose(1, 2).flatten(-2))

    def pattern(self, x, table):
        """The attention probabilities [batch, heads, time, time], for the scores."""
        q, k, _ = self.project(x, table)
        s = q @ k.transpose(-1, -2) / self.cfg.head_dim**0.5
        future = torch.ones(s.shape[-2:], dtype=torch.bool).triu(1)
        return s.masked_fill(future, float("-inf")).softmax(-1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + swiglu(norm(x))."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.attn_norm = nn.RMSNorm(cfg.dim, cfg.eps)
        self.attn = Attention(cfg)
        self.ffn_norm = nn.RMSNorm(cfg.dim, cfg.eps)
        self.gate = nn.Linear(cfg.dim, cfg.hidden, bias=False)
        self.up = nn.Linear(cfg.dim, cfg.hidden, bias=False)
        self.down = nn.Linear(cfg.hidden, cfg.dim, bias=False)

    def forward(self, x, table):
        x = x + self.attn(self.attn_norm(x), table)
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    """Token ids [batch, time] in, logits [batch, time, vocab] out."""

    def __init__(self, cfg: Config = Config()):
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.vocab, cfg.dim)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.norm = nn.RMSNorm(cfg.dim, cfg.eps)
        self.head = nn.Linear(cfg.dim, cfg.vocab, bias=False)
        self.register_buffer("rope", rope_table(cfg), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # The two matrices that write into the residual stream start
                # smaller, so that its size does not grow with the depth.
                writes = name.endswith(("attn.output.weight", "down.weight"))
                nn.init.normal_(p, std=0.04 / (2 * cfg.layers) ** 0.5 if writes else 0.04)
        # Large, like everything that the blocks will add to it: with the usual 0.02 the
        # first block drowns the identity of the token, and no later head can match it.
        nn.init.normal_(self.embed.weight, std=1.0)
        self.prepare_copying()

    @torch.no_grad()
    def prepare_copying(self):
        """Starting values from which copying is a short way to go.

        To copy, a model must find where a token was ("is this key my query?"), carry
        its identity along, and write it.  From unrelated random matrices each of these
        has to be learned for each of the 1024 tokens, and induction heads come late.
        So the output matrix starts as a copy of the embedding (it is its own parameter
        afterwards), and some heads start with matching queries, keys, values and
        outputs on one shared subspace ("mimetic initialization", Trockman and Kolter,
        2023).  Where to look is left to training: nothing here knows about positions."""
        size = self.cfg.head_dim
        self.head.weight.copy_(0.02 * self.embed.weight)
        basis = torch.empty(2 * size, self.cfg.dim)
        nn.init.orthogonal_(basis)
        for number, block in enumerate(self.blocks):
            for group in (0, 1):
                rows = basis[group * size : (group + 1) * size]
                block.attn.v.weight[group * size : (group + 1) * size] = rows
                for head in (2 * group, 2 * group + 1):
                    block.attn.output.weight[:, head * size : (head + 1) * size] = 0.25 * rows.T
                if number > 0:  # the heads of the first block stay free
                    block.attn.k.weight[group * size : (group + 1) * size] = rows
                    block.attn.q.weight[2 * group * size : (2 * group + 1) * size] = rows

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, self.rope)
        return self.head(self.norm(x))

    @torch.no_grad()
    def patterns(self, ids):
        """The attention pattern of every layer: a list of [batch, heads, time, time]."""
        x, result = self.embed(ids), []
        for block in self.blocks:
            result.append(block.attn.pattern(block.attn_norm(x), self.rope))
            x = block(x, self.rope)
        return result
