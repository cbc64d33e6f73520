#!/usr/bin/env bash
# Everything that CI runs, stage by stage. All stages run, also after one has failed. The last line is the
# total over all of them, "N passed, N failed"; the exit status is 0 only where nothing failed and no stage
# was empty.
#
#   scripts/test.sh [STAGE...]     only stages whose name contains one of the words
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

cache=${XDG_CACHE_HOME:-$HOME/.cache}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/gateway-target}
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
python=${GATEWAY_VENV:-$cache/gateway-venv}/bin/python
gateway=$CARGO_TARGET_DIR/ci/gateway
only=("$@")

scripts/setup.sh test || {
    echo "0 passed, 1 failed"
    exit 1
}
# The set-up's word; the gateway would read it as a key of its configuration.
unset GATEWAY_VENV

# Property tests play the same cases in every run here; elsewhere each run plays others.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-20260124}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
total_passed=0 total_failed=0 summary=() failures=()

wanted() {
    local word
    ((${#only[@]} == 0)) && return 0
    for word in "${only[@]}"; do
        [[ $1 == *"$word"* ]] && return 0
    done
    return 1
}

# Sums the "N passed" and "N failed" of all lines that close a run of tests: cargo's "test result:" and the
# plain "N passed, N failed" of the Python runners.
counts() {
    awk '/^test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i - 1); if ($i ~ /^failed/) f += $(i - 1) } }
         /^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 }
         END { print p + 0, f + 0 }' "$log"
}

# stage KIND NAME COMMAND...   KIND: check (passes or fails as a whole) or tests (must have run some)
stage() {
    local kind=$1 name=$2 line status passed=0 failed=0 started=$SECONDS verdict=ok
    shift 2
    wanted "$name" || return 0
    printf '\n==== %s\n' "$name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    if [[ $kind == tests ]]; then
        read -r passed failed < <(counts)
        if ((passed + failed == 0)); then
            echo "no test ran in this stage"
            status=1
        fi
    fi
    # Said once more at the end: whoever reads a log from behind, or a part of it, learns what failed.
    if ((status != 0 || failed > 0)); then
        while read -r line; do
            failures+=("$name: ${line:0:600}")
        done < <(grep -E '^(FAIL|fail|test .* FAILED$|error(\[|:)|[Tt]hread .* panicked)' "$log" | head -20)
    fi
    # A stage that broke without naming a failed test is itself one.
    ((status != 0 && failed == 0)) && failed=1
    ((failed > 0)) && verdict=FAILED
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
    if [[ $kind == tests ]]; then
        summary+=("$(printf '%-44s %-6s %5d passed %4d failed %5ds' "$name" "$verdict" "$passed" "$failed" $((SECONDS - started)))")
    else
        summary+=("$(printf '%-44s %-6s %26s %5ds' "$name" "$verdict" '' $((SECONDS - started)))")
    fi
}

stage check "format" cargo fmt --all --check
stage check "clippy" cargo clippy --profile ci --workspace --all-targets -- -D warnings
stage tests "cargo test" cargo test --profile ci --workspace --no-fail-fast
stage check "build the gateway" cargo build --profile ci --workspace
stage check "features: none" cargo check --profile ci -p gateway-bin --no-default-features
stage check "features: postgres" cargo check --profile ci -p gateway-bin --no-default-features --features postgres
stage check "features: operators" cargo check --profile ci -p gateway-bin --no-default-features --features operators
stage check "features: console" cargo check --profile ci -p gateway-bin --no-default-features --features console
stage check "features: vault" cargo check --profile ci -p gateway-bin --no-default-features --features postgres,vault
stage check "features: ssh" cargo check --profile ci -p gateway-bin --no-default-features --features ssh
stage check "features: iam" cargo check --profile ci -p gateway-bin --no-default-features --features postgres,iam
stage check "every crate packages by itself" cargo package --workspace --no-verify --allow-dirty --quiet
stage tests "instructions of the hot paths" python3 bench/instructions.py --binary "$CARGO_TARGET_DIR/ci/examples/hot_path"
stage check "links of the book" python3 scripts/check-docs.py
stage tests "end to end" "$python" tests/e2e/run.py --gateway "$gateway"
stage tests "the API against its description" "$python" tests/api/run.py --gateway "$gateway"
stage tests "leases of gateways that are killed" "$python" tests/leases/run.py --gateway "$gateway" --rounds 10 --seed 7
stage tests "cases: postgres" "$python" tests/cases/postgres/rig.py --gateway "$gateway" \
    --expect allow deny mask hold
stage tests "cases: postgres, with a role for each session" "$python" tests/cases/postgres/rig.py --gateway "$gateway" \
    --roles --expect allow deny mask hold
stage tests "cases: postgres, as a session's role at the bare server" "$python" tests/cases/postgres/blind.py \
    --gateway "$gateway" --listed
# By itself: its clients have deadlines, which a stage that keeps all processors busy made one miss.
stage tests "cases: ssh" "$python" tests/cases/ssh/rig.py --gateway "$gateway"
stage tests "cases: attacks and uses of every class" "$python" tests/cases/postgres/rig.py --gateway "$gateway" \
    --cases tests/attack --expect allow deny mask error hold
if [[ -f ../shared/cases/postgres/rig.py ]]; then
    stage tests "cases: postgres, the shared sample" "$python" ../shared/cases/postgres/rig.py --gateway "$gateway" \
        --expect allow deny mask hold
fi
if [[ -f ../shared/cases/ssh/rig.py ]]; then
    stage tests "cases: ssh, the shared sample" "$python" ../shared/cases/ssh/rig.py --gateway "$gateway"
fi
stage tests "reads hold what the server's plans read" "$python" tests/superset/run.py \
    --analyze "$CARGO_TARGET_DIR/ci/analyze" --queries 400 --only own generated
stage tests "canaries behind the masks" "$python" tests/canary/run.py --gateway "$gateway" --queries 200

printf '\n==== all stages\n'
((${#summary[@]})) && printf '%s\n' "${summary[@]}"
if ((total_failed > 0)); then
    printf '\n==== what failed\n'
    printf '%s\n' "${failures[@]}"
fi
echo "$total_passed passed, $total_failed failed"
((total_failed == 0 && ${#summary[@]} > 0))
