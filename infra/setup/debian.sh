#!/usr/bin/env bash
# debian.sh [--optional] PACKAGE WHAT-FOR   Install a Debian package when we may; say what to do when we may not.
# Nothing that the package brings is started: what runs here are our own private servers.
set -euo pipefail
here=$(dirname "$0")
optional=
if [ "$1" = --optional ]; then
  optional=yes
  shift
fi
package=$1
purpose=$2

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  if [ -n "$optional" ]; then
    printf '· %s is not installed: %s will be skipped.\n' "$package" "$purpose" >&2
    exit 0
  fi
  printf '%s is missing (%s). Install it: sudo apt-get install --no-install-recommends %s\n' \
    "$package" "$purpose" "$package" >&2
  exit 1
fi

policy=/usr/sbin/policy-rc.d
kept=
restore() {
  rm -f "$policy"
  [ -z "$kept" ] || mv "$kept" "$policy"
}
if [ -e "$policy" ]; then
  kept=$policy.kept-by-buildlight
  mv "$policy" "$kept"
fi
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod +x "$policy"

export DEBIAN_FRONTEND=noninteractive
"$here/quietly" "Fetch Debian's list of packages" apt-get update -q
"$here/quietly" "Install Debian's package $package ($purpose)" \
  apt-get install -q -y --no-install-recommends "$package"
if [ "$package" = rabbitmq-server ] && [ -d /run/systemd/system ]; then
  systemctl disable --quiet rabbitmq-server.service epmd.service epmd.socket 2>/dev/null || true
fi
