#!/bin/sh
# Makes tiny.gguf from nothing: corpus, vocabulary, training, export, checks, report.
#
#   models/tiny/make.sh [VENV]
#
# VENV is the folder of the Python environment (made if missing); default .venv-tiny
# beside this script.  Everything in between lies in build/.  A run that was cut off
# goes on from its last checkpoint; remove build/ to start afresh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/.venv-tiny}
build=$here/build
python=$venv/bin/python

[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet -r "$here/requirements.txt"

# No __pycache__ in the source folder.
export PYTHONDONTWRITEBYTECODE=1
if [ ! -f "$build/checkpoint.pt" ]; then
  "$python" "$here/corpus.py" "$build"
  "$python" "$here/tokenizer.py" "$build"
fi
"$python" "$here/train.py" "$build"
"$python" "$here/export.py" "$build" "$here/tiny.gguf"
# The embedded model is imported as text (models/embedded.ts).
base64 "$here/tiny.gguf" >"$here/tiny.gguf.base64"
"$python" "$here/verify.py" "$build" "$here/tiny.gguf"
"$python" "$here/evaluate.py" "$build"
"$python" "$here/report.py" "$build" "$here"
