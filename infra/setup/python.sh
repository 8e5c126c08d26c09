#!/usr/bin/env bash
# python.sh venv|requirements|project   Make .venv, fill it with the pinned packages, install the checkout into it.
set -euo pipefail
here=$(dirname "$0")
python=.venv/bin/python

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

find_python() {
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed, and none was found. Install it (Debian: sudo apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3."
}

# uv does not read pip's configuration: a machine that takes its packages from a mirror says so only there.
use_pips_index() {
  local index
  if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    index=${PIP_INDEX_URL:-$($python -m pip config get global.index-url 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX=$index
  fi
  export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-}}
  [ -n "$SSL_CERT_FILE" ] || unset SSL_CERT_FILE
}

case ${1:?} in
  venv)
    interpreter=$(find_python)
    "$interpreter" -c 'import ensurepip, venv' 2>/dev/null ||
      fail "Python's venv module is missing. Install it (Debian: sudo apt-get install python3-venv)."
    "$here/quietly" "Make the virtual environment .venv" "$interpreter" -m venv --clear .venv
    "$here/quietly" "Install uv, which installs the rest" \
      $python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$here/uv.txt"
    ;;
  requirements)
    use_pips_index
    "$here/quietly" "Install the pinned Python packages" \
      .venv/bin/uv pip install --quiet --python $python --require-hashes -r requirements-dev.txt
    ;;
  project)
    use_pips_index
    "$here/quietly" "Install this checkout into .venv" \
      .venv/bin/uv pip install --quiet --python $python --no-deps -e ./contracts -e .
    ;;
  compile)
    use_pips_index
    compile() {
      .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-package buildlight-contracts "$@" >/dev/null
    }
    compile pyproject.toml -o requirements.txt ${UPGRADE:+--upgrade}
    compile pyproject.toml --extra dev --extra bench -c requirements.txt -o requirements-dev.txt ${UPGRADE:+--upgrade}
    printf 'uv\n' | compile - -o "$here/uv.txt" ${UPGRADE:+--upgrade}
    ;;
esac
