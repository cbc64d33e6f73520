#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (default 60) on its committed corpus and on what it finds.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
shift || true

skip() {
    echo "fuzz: SKIPPED, nothing was fuzzed: $*" >&2
    exit 0
}
[[ -f fuzz/Cargo.toml ]] || skip "there is no fuzz/ in this tree"
command -v rustup >/dev/null && rustup toolchain list | grep -q '^nightly' ||
    skip "it needs a nightly toolchain: rustup toolchain install nightly"
cargo +nightly fuzz --version >/dev/null 2>&1 ||
    skip "it needs cargo-fuzz: cargo install cargo-fuzz --locked"

if (($#)); then targets=("$@"); else mapfile -t targets < <(cargo +nightly fuzz list); fi
((${#targets[@]})) || {
    echo "fuzz: there is no target" >&2
    exit 1
}
# What is found goes beside the build; the committed corpus is only read.
found=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/gateway-target}/fuzz-corpus
failed=0
for target in "${targets[@]}"; do
    echo "==== $target, ${seconds}s"
    mkdir -p "$found/$target" "fuzz/corpus/$target"
    cargo +nightly fuzz run "$target" "$found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 || failed=$((failed + 1))
done
echo "$((${#targets[@]} - failed)) passed, $failed failed"
((failed == 0))
