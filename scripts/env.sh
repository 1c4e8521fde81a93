# shellcheck shell=bash
# Where things are, and how the scripts speak. Sourced by every script here; running it does nothing.
# Knows no tool by itself: versions live in requirements/dev.lock and scripts/kafka-server/pom.xml.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck disable=SC2034  # for the scripts that source this
VENV="$ROOT/.venv"
# shellcheck disable=SC2034
LOCK="$ROOT/requirements/dev.lock"

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# Prints the comment block at the top of the calling script: the usage text has one home.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$1"; }

# One digest over the named files' contents.
digest() { cat "$@" | (sha256sum 2>/dev/null || shasum -a 256) | cut -d' ' -f1; }
