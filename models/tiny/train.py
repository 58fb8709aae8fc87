"""Trains the model on the corpus.

    python train.py FOLDER [--steps N] [--threads N]

reads FOLDER/train.jsonl, held-out.jsonl and tokenizer.model; writes
FOLDER/checkpoint.pt every few minutes and FOLDER/training-log.csv.  Started again,
it goes on from the checkpoint.
"""

import argparse
import math
import os
import random
import time
from pathlib import Path

import sentencepiece as spm
import torch
import torch.nn.functional as F

from evaluate import BOS, EOS, FIRST, copy_loss, documents, head_scores, held_out_loss
from model import Llama

SEED = 20261124
TOKENS = 2048  # a batch
# From which part of the steps on, how long the rows of a batch are.  Attention starts
# out nearly uniform, so in a short row the one token that matters gets a larger share
# of it, and with it a larger gradient; short rows are also faster.
LENGTHS = ((0.0, 128), (0.2, 256), (0.6, 512), (0.85, 1024))
PEAK, FLOOR, WARMUP = 1.0, 0.03, 100  # learning rate, as a part of the two below
MUON_RATE, ADAM_RATE = 0.02, 2e-3
# Repeated random sequences: from which part of the steps on, which share of the tokens,
# which periods.  Short repeats come first: where a token returns after a few others,
# even vague attention finds it; then the periods grow.
STAGES = ((0.0, 0.20, 4, 24), (0.2, 0.15, 6, 80), (0.6, 0.12, 8, 200))
LOG_EVERY, TEST_EVERY, SAVE_EVERY = 20, 200, 100
IGNORE = -100  # the target that cross_entropy leaves out


class Documents:
    """Deals documents as (ids, targets are worth learning) pairs, in a seeded order.

    `dealt` and `rng` are all its state, so that a run can be resumed exactly."""

    def __init__(self, texts, sp):
        self.ids = [[BOS, *row, EOS] for row in sp.encode(texts)]
        self.order = list(range(len(self.ids)))
        random.Random(SEED).shuffle(self.order)
        self.rng = random.Random(SEED + 1)
        self.dealt = 0
        self.mean = sum(map(len, self.ids)) / len(self.ids)
        self.lengths = {}

    def stage(self, done):
        """Sets the share and the periods of the random sequences, `done` of 1 through."""
        _, share, self.low, self.high = [s for s in STAGES if s[0] <= done][-1]
        if (self.low, self.high) not in self.lengths:
            rng = random.Random(0)
            self.lengths[self.low, self.high] = sum(len(self.repeat(rng)[0]) for _ in range(2000)) / 2000
        # The chance of a document that makes this share of tokens.
        a, b = share / self.lengths[self.low, self.high], (1 - share) / self.mean
        self.chance = a / (a + b)

    def repeat(self, rng):
        """A sequence of uniformly random tokens, then the same again once or more.

        The first copy cannot be foretold, so it is not a target: it would only add
        noise, and teach the model to write random tokens."""
        period = round(self.low * (self.high / self.low) ** rng.random())
        copies = rng.choice((2, 2, 3)) if period > 40 else rng.randint(2, 5)
        once = [rng.randrange(FIRST, 1024) for _ in range(period)]
        ids = [BOS, *once * copies, EOS]
        return ids, [i > period + 1 for i in range(len(ids))]

    def next(self):
        if self.rng.random() < self.chance:
            return self.repeat(self.rng)
        ids = self.ids[self.order[self.dealt % len(self.order)]]
        self.dealt += 1
        return ids, [i > 0 for i in range(len(ids))]

    def batch(self, length):
        """Rows of whole documents; only the last one of a row may be cut.

        Every row starts with a document, so no token lacks the text it refers to."""
        inputs, targets = [], []
        for _ in range(TOKENS // length):
            ids, learn = [], []
            while len(ids) <= length:
                more, worth = self.next()
                ids, learn = ids + more, learn + worth
            inputs.append(ids[:length])
            targets.append([t if w else IGNORE for t, w in zip(ids[1 : length + 1], learn[1 : length + 1])])
        return torch.tensor(inputs), torch.tensor(targets)


def rate(step, steps):
    """Learning rate: a linear warm-up, then a cosine down to the floor."""
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    x = (step - WARMUP) / (steps - WARMUP)
    return FLOOR + (PEAK - FLOOR) * 0.5 * (1 + math.cos(math.pi * x))


def make_optimizers(model):
    """Muon for the matrices inside the blocks, AdamW for the rest.

    Muon makes all directions of an update equally large: a copying head needs many,
    one for each token, and none of them often."""
    inside = [p for p in model.blocks.parameters() if p.dim() == 2]
    tables = [model.embed.weight, model.head.weight]
    # Norm weights are scales around 1: decay would pull them to 0 for no reason.
    norms = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": tables, "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(inside, lr=MUON_RATE, weight_decay=0.1, momentum=0.95),
        torch.optim.AdamW(groups, lr=ADAM_RATE, betas=(0.9, 0.99), eps=1e-8),
    ]


def save(path, **state):
    """Writes beside the old file first: an exporter may read at any moment."""
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("folder", type=Path)
    cli.add_argument("--steps", type=int, default=2300)
    cli.add_argument("--threads", type=int, default=1, help="one thread makes the sums reproducible")
    args = cli.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)

    sp = spm.SentencePieceProcessor(model_file=str(args.folder / "tokenizer.model"))
    docs = Documents([d["text"] for d in documents(args.folder, "train")], sp)
    test = documents(args.folder)[:60]
    model = Llama()
    optimizers = make_optimizers(model)

    checkpoint, log_path = args.folder / "checkpoint.pt", args.folder / "training-log.csv"
    step, spent = 0, 0.0
    if checkpoint.exists():
        old = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(old["model"])
        for optimizer, state in zip(optimizers, old["optimizers"]):
            optimizer.load_state_dict(state)
        docs.dealt, step, spent = old["dealt"], old["step"], old["spent"]
        docs.rng.setstate(old["rng"])
        lines = log_path.read_text().splitlines()
        log_path.write_text("\n".join([lines[0], *(l for l in lines[1:] if int(l.split(",")[0]) <= step)]) + "\n")
    else:
        log_path.write_text("step,tokens,rate,loss,held_out,induction,previous,copy,seconds\n")

    start, losses = time.monotonic() - spent, []
    while step < args.steps:
        docs.stage(step / args.steps)
        inputs, targets = docs.batch([n for part, n in LENGTHS if part <= step / args.steps][-1])
        for optimizer, top in zip(optimizers, (MUON_RATE, ADAM_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = top * rate(step, args.steps)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        losses.append(loss.item())

        last = step == args.steps
        if step % LOG_EVERY == 0 or last:
            row = [step, step * TOKENS, f"{rate(step - 1, args.steps):.4f}", f"{sum(losses) / len(losses):.4f}"]
            losses = []
            if step % TEST_EVERY == 0 or last:
                induction, previous = head_scores(model)
                row += [f"{held_out_loss(model, sp, test)['all']:.4f}", f"{induction.max():.3f}",
                        f"{previous.max():.3f}", f"{copy_loss(model):.3f}"]
            else:
                row += [""] * 4
            row.append(f"{time.monotonic() - start:.0f}")
            with open(log_path, "a") as f:
                f.write(",".join(map(str, row)) + "\n")
        if step % SAVE_EVERY == 0 or last:
            save(checkpoint, model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers], dealt=docs.dealt,
                 rng=docs.rng.getstate(), step=step, spent=time.monotonic() - start)


if __name__ == "__main__":
    main()
