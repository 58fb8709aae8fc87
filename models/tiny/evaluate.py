"""Measures a trained model: what train.py logs, and what the model card reports.

    python evaluate.py FOLDER        (reads FOLDER/checkpoint.pt and the corpus)
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import sentencepiece as spm
import torch
import torch.nn.functional as F

from model import Llama

BOS, EOS, FIRST = 1, 2, 3  # FIRST: the first id that is not a special token


def load(folder):
    """The model of the last checkpoint, its weights rounded to F16 as in the file."""
    model = Llama()
    model.load_state_dict(torch.load(Path(folder) / "checkpoint.pt")["model"])
    for p in model.parameters():
        if p.dim() == 2:
            p.data = p.data.half().float()
    return model.eval()


def documents(folder, name="held-out"):
    with open(Path(folder) / f"{name}.jsonl", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


@torch.no_grad()
def held_out_loss(model, sp, docs):
    """Mean loss per token, over all documents and by kind; in nats."""
    total, count = defaultdict(float), defaultdict(int)
    for doc in docs:
        ids = torch.tensor([[BOS, *sp.encode(doc["text"]), EOS]])[:, : model.cfg.context + 1]
        loss = F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="sum").item()
        for kind in ("all", doc["kind"]):
            total[kind] += loss
            count[kind] += ids.shape[1] - 1
    return {kind: total[kind] / count[kind] for kind in total}


@torch.no_grad()
def head_scores(model, n=50, seeds=8):
    """Induction and previous-token score of every head: two [layers, heads] tensors.

    The input is [BOS, r_1..r_n, r_1..r_n] with uniformly random tokens r.  From the
    second copy of r_i, an induction head attends to what followed the first copy:
    n - 1 positions back.  A previous-token head attends one position back.
    """
    rows = []
    for seed in range(seeds):
        g = torch.Generator().manual_seed(seed)
        r = torch.randint(FIRST, model.cfg.vocab, (n,), generator=g)
        rows.append(torch.cat([torch.tensor([BOS]), r, r]))
    induction, previous = [], []
    for p in model.patterns(torch.stack(rows)):  # [seeds, heads, time, time]
        # Entry j of this diagonal is query j + n - 1; the second copy starts at n + 1.
        induction.append(p.diagonal(-(n - 1), -2, -1)[..., 2:].mean((0, 2)))
        previous.append(p.diagonal(-1, -2, -1).mean((0, 2)))
    return torch.stack(induction), torch.stack(previous)


@torch.no_grad()
def copy_loss(model, n=50, seeds=8):
    """Loss on the second copy of n random tokens; ln(1021) = 6.93 is no copying at all."""
    g = torch.Generator().manual_seed(1234)
    r = torch.randint(FIRST, model.cfg.vocab, (seeds, n), generator=g)
    ids = torch.cat([torch.full((seeds, 1), BOS), r, r], dim=1)
    logits = model(ids[:, :-1])[:, n + 1 :]  # the first token of the copy cannot be known
    return F.cross_entropy(logits.flatten(0, 1), ids[:, n + 2 :].flatten()).item()


@torch.no_grad()
def generate(model, sp, prompt, limit=300, temperature=0.0, seed=0):
    """The continuation, and whether it ended by itself."""
    g = torch.Generator().manual_seed(seed)
    ids = [BOS, *sp.encode(prompt)]
    start = len(ids)
    for _ in range(limit):
        logits = model(torch.tensor([ids]))[0, -1]
        if temperature:
            token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=g).item()
        else:
            token = logits.argmax().item()
        if token == EOS:
            return sp.decode(ids[1:]), len(ids) - start, True
        ids.append(token)
    return sp.decode(ids[1:]), limit, False


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    model = load(folder)
    sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    print("held-out loss, nats per token")
    for kind, loss in sorted(held_out_loss(model, sp, documents(folder)).items(), key=lambda x: x[1]):
        print(f"  {kind:10} {loss:.3f}")
    print(f"loss on a second copy of 50 random tokens: {copy_loss(model):.3f}")
    for name, scores in zip(("induction", "previous token"), head_scores(model)):
        print(f"{name} score by layer (rows) and head (columns)")
        for row in scores:
            print("  " + " ".join(f"{x:5.2f}" for x in row))
    prompts = ["Once upon a time", "Once upon a time, there was a little fox named Lily.", "One day, Tom",
               "Mia was a little girl who lived near the lake.", "The bridge is broken,"]
    for prompt in prompts:
        for temperature, seed in ((0.0, 0), (0.8, 1), (0.8, 2)):
            text, count, ended = generate(model, sp, prompt, 400, temperature, seed)
            how = "greedy" if not temperature else f"temperature {temperature}, seed {seed}"
            print(f"\n[{how}; {count} tokens{'' if ended else ', cut off'}]\n{text}")


if __name__ == "__main__":
    main()
