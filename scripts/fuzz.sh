#!/usr/bin/env bash
# Builds the fuzz targets, then runs each for SECONDS (default 60) on its committed corpus and on what it finds.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]
#
# It is libFuzzer without a sanitizer, optimised a little, with debug assertions and overflow checks: our crates forbid
# unsafe code, so that what an address sanitizer would see lies in dependencies, and its build takes a machine of two
# cores too long. GATEWAY_FUZZ_SANITIZER=address builds with it all the same.
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
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/gateway-target/fuzz}
sanitizer=${GATEWAY_FUZZ_SANITIZER:-none}
how=(--sanitizer "$sanitizer" --codegen-units 16)
echo "fuzz: $(rustc +nightly --version), libFuzzer, sanitizer: $sanitizer"
cargo +nightly fuzz build "${how[@]}"

# Which words a target's inputs are made of.
words() {
    case $1 in
    analyze | session | shape) echo fuzz/dictionaries/sql.dict ;;
    config | policy) echo "fuzz/dictionaries/$1.dict" ;;
    esac
}

# What is found goes beside the build; the committed corpus is only read.
found=$CARGO_TARGET_DIR/fuzz-corpus
failed=0
for target in "${targets[@]}"; do
    echo "==== $target, ${seconds}s"
    mkdir -p "$found/$target" "fuzz/corpus/$target"
    options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)
    dictionary=$(words "$target")
    [[ -z $dictionary ]] || options+=(-dict="$dictionary")
    cargo +nightly fuzz run "${how[@]}" "$target" "$found/$target" "fuzz/corpus/$target" -- "${options[@]}" ||
        failed=$((failed + 1))
done
echo "$((${#targets[@]} - failed)) passed, $failed failed"
((failed == 0))
