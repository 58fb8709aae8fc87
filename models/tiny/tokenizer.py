"""Trains the vocabulary: SentencePiece BPE with byte fallback, as in Llama 2.

    python tokenizer.py FOLDER

reads FOLDER/train.jsonl and writes FOLDER/tokenizer.model.
"""

import json
import sys
from pathlib import Path

import sentencepiece as spm

VOCAB = 1024
DOCUMENTS = 20_000  # merges are settled long before the corpus ends


def main():
    folder = Path(sys.argv[1])
    lines = []
    with open(folder / "train.jsonl", encoding="utf-8") as f:
        for _, line in zip(range(DOCUMENTS), f):
            lines += json.loads(line)["text"].split("\n")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=VOCAB,
        byte_fallback=True,  # 256 byte pieces: no text is out of reach
        character_coverage=1.0,
        split_digits=True,
        add_dummy_prefix=True,  # "Once" and " Once" are one piece
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        max_sentence_length=1 << 16,
        num_threads=1,  # one thread, one order of counting, one result
        minloglevel=1,
    )


if __name__ == "__main__":
    main()
