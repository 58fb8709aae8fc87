"""Runs a notebook's cells, with the kernel that it names, and writes it with its outputs: execute.py NOTEBOOK TARGET SECONDS.

Says on stdout, a JSON value a line, which cell begins (its index), and at the end what went wrong where no output says it.
A cell that fails ends the run; its output is in TARGET.
"""

import json
import os
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

source, target, seconds = sys.argv[1:]


def say(value):
    print(json.dumps(value), flush=True)


notebook = nbformat.read(source, as_version=4)
client = NotebookClient(
    notebook,
    # A kernel runs in its notebook's folder: that is where "../mod.ts" is.
    resources={"metadata": {"path": os.path.dirname(os.path.abspath(source))}},
    timeout=int(seconds),
    record_timing=False,
    coalesce_streams=True,
    on_cell_start=lambda cell, cell_index: say(cell_index),
)
try:
    client.execute()
except CellExecutionError:
    pass
except CellTimeoutError:
    say({"problem": f"not done after {seconds} s"})
except DeadKernelError:
    say({"problem": "the kernel died"})
nbformat.write(notebook, target)
