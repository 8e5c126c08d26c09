#!/usr/bin/env bash
# node.sh   Install the pinned npm packages: the pages' scripts, and what the tests check against.
set -euo pipefail
if ! command -v npm >/dev/null; then
  printf 'npm is missing. Install Node.js 20 or newer with npm (Debian: sudo apt-get install nodejs npm).\n' >&2
  exit 1
fi
"$(dirname "$0")/quietly" "Install the pinned npm packages" \
  npm ci --silent --ignore-scripts --no-audit --no-fund
