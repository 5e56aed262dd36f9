#!/usr/bin/env bash
# Resolve the dependencies anew and write requirements.lock; scripts/lock.py says how.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --upgrade pip packaging
"$scratch/venv/bin/python" scripts/lock.py
# the pins, all of them and nothing else, once for real
"$scratch/venv/bin/pip" install --quiet -r requirements.lock
"$scratch/venv/bin/pip" check
