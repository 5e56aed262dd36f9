#!/usr/bin/env bash
# Resolve the dependencies in a scratch environment and write requirements.lock: every transitive pin.
# Local version labels (such as torch's +cpu) are dropped, or the lock would install only where it was made.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" requirements.lock.new' EXIT
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --upgrade pip
"$scratch/venv/bin/pip" install --quiet 'torch==2.13.0' -e '.[dev]'
"$scratch/venv/bin/pip" check
{
    echo "# Every transitive pin, made by 'make lock' with Python $("$python" -c 'import platform; print(platform.python_version())')."
    "$scratch/venv/bin/pip" freeze --exclude-editable --all | grep -Ev '^(pip|setuptools)==' | sed -E 's/\+[A-Za-z0-9.]+$//'
} > requirements.lock.new
mv requirements.lock.new requirements.lock
echo "requirements.lock: $(grep -c '==' requirements.lock) packages"
