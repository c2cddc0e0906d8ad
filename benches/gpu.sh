#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: verifies the wgpu back end, times it beside flash-linear-attention's Triton kernels and
# the GPU's ceilings, and prints one table with the ratios. Under 9 minutes: every step has its share of a deadline.
#
#   benches/gpu.sh [--smoke] [--chunkwise BINARY] [--device NAME] [--precision LIST] [PEERS]
#
# PEERS is the folder of the peers, ../shared/peers if not given; of it are used gpu/fla_bench.py with the wheel fla_core
# beside it, and the built gpu/probe. What is absent is left out, and said. --smoke goes the whole way at tiny sizes.
# Logs and JSON lines stay in $OUT (default: target/gpu).
set -uo pipefail
cd "$(dirname "$0")/.."

smoke='' binary='' device='' precisions='f32 f16' peers=../shared/peers
while (( $# )); do
  case $1 in
    --smoke) smoke=yes ;;
    --chunkwise) binary=$2; shift ;;
    --device) device=$2; shift ;;
    --precision) precisions=${2//,/ }; shift ;;
    -*) echo "unknown flag $1: see the head of this file" >&2; exit 2 ;;
    *) peers=$1 ;;
  esac
  shift
done
out=${OUT:-target/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)
deadline=${DEADLINE:-520}
left() { echo $(( deadline - SECONDS > 1 ? deadline - SECONDS : 1 )); }
# A step, for at most so many seconds and never beyond the deadline.
within() { local most=$1; shift; timeout -k 5 "$(( most < $(left) ? most : $(left) ))" "$@"; }
say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

if [[ -z $binary ]]; then
  say "Building chunkwise"
  within 240 cargo build --quiet --release -p chunkwise --features wgpu || exit 1
  binary=target/release/chunkwise
fi
on=()
[[ -z $device ]] || on=(--device "$device")
say "The GPU"
"$binary" backends "${on[@]}" | grep -A9 '^wgpu' || exit 1

variants=(linear_attention retnet gla gated_deltanet kda mamba2 deltanet)
files=("${variants[@]/#/examples/}")
files=("${files[@]/%/.attn}")

say "Verifying ${variants[*]}"
small=(--tokens 1,65,130)
[[ -z $smoke ]] || { small=(--tokens 9 --chunk 4 --form recurrent,chunked); files=("${files[@]:0:2}"); }
within 90 "$binary" verify "${files[@]}" --backend wgpu "${on[@]}" "${small[@]}" | tee "$out/verify.txt"
echo "exit status ${PIPESTATUS[0]}"

# The peer compiles and times on its own; the processor's cores are free while the GPU's figures are taken after it.
fla() {
  local folder=$peers/gpu
  [[ -f $folder/fla_bench.py ]] || { echo "no $folder/fla_bench.py"; return; }
  python3 -c 'import torch, triton' 2>/dev/null || { echo "python3 has no torch and triton here"; return; }
  if ! python3 -c 'import fla' 2>/dev/null; then
    local wheel
    wheel=$(ls "$folder"/fla_core-*.whl 2>/dev/null | head -1)
    [[ -n $wheel ]] || { echo "no fla_core-*.whl beside $folder/fla_bench.py"; return; }
    mkdir -p "$out/site" && python3 -m zipfile -e "$wheel" "$out/site"
    export PYTHONPATH=$out/site
  fi
  rm -f "$out/fla.jsonl"
  local only='ceilings|^(linear|retention|gla|gdn|kda_safe|simple_gla|delta)/fwd/bf16/(B8T2048|B4T4096|B32T1024)|^rec_'
  OUT=$out within 200 python3 "$folder/fla_bench.py" --only "$only" --deadline 185 --results "$out/fla.jsonl" > "$out/fla.log" 2>&1
  tail -3 "$out/fla.log"
}

probe() {
  local found
  found=$(ls "$peers"/gpu/probe/target/release/probe "$peers"/gpu/probe/probe 2>/dev/null | head -1)
  [[ -n $found ]] || { echo "no built probe in $peers/gpu/probe"; return; }
  within 60 "$found" --ms 100 > "$out/probe.log" 2>&1
  grep -E '^(copy|one dependent)|TFLOP/s' "$out/probe.log"
}

say "The peer: flash-linear-attention"
if [[ -z $smoke ]]; then fla; else echo "left out"; fi
say "Ceilings: copies and products through wgpu"
if [[ -z $smoke ]]; then probe; else echo "left out"; fi

# name batch tokens heads K V
shapes=("B8T2048 8 2048 16 128 128" "decode1 1 1 16 128 128" "decode64 64 1 16 128 128" "decode256 256 1 16 128 128"
        "B4T4096 4 4096 16 128 128" "B32T1024 32 1024 16 64 64")
[[ -z $smoke ]] || shapes=("tiny 2 24 2 16 16" "decode1 1 1 2 16 16")
rm -f "$out/ours.jsonl"
say "Timing ours"
for precision in $precisions; do
  for shape in "${shapes[@]}"; do
    read -r name batch tokens heads k v <<< "$shape"
    for variant in "${variants[@]}"; do
      (( $(left) > 8 )) || { echo "the time is up before $variant $name $precision"; continue; }
      form=(--form chunked --chunk "${CHUNK:-64}" --schedule fused,split)
      [[ $name != decode* ]] || form=(--form recurrent)
      dims=(--dim "K=$k" --heads "$heads")
      # One group a head, as the peer has it.
      [[ $variant != mamba2 ]] || dims=(--dim "N=$k" --dim "G=$heads" --dim R=1)
      within 25 "$binary" bench "examples/$variant.attn" --backend wgpu "${on[@]}" --precision "$precision" "${form[@]}" \
        --batch "$batch" --tokens "$tokens" "${dims[@]}" --dim "V=$v" --json 2> "$out/bench.err" |
        sed "s/^{/{\"shape\":\"$name\",\"precision\":\"$precision\",\"k\":$k,\"v\":$v,/" | tee -a "$out/ours.jsonl" | cut -c1-200
      [[ ${PIPESTATUS[0]} == 0 ]] || echo "$variant $name $precision: $(tail -1 "$out/bench.err")"
    done
  done
done

say "Table"
python3 - "$out" <<'PY'
import json, os, re, sys
out = sys.argv[1]
lines = lambda name: [json.loads(l) for l in open(f"{out}/{name}")] if os.path.exists(f"{out}/{name}") else []
peer_of = dict(linear_attention="linear", retnet="retention", gla="gla", gated_deltanet="gdn", kda="kda_safe",
               mamba2="simple_gla", deltanet="delta")
decode_of = dict(gla="rec_gla", gated_deltanet="rec_gdn", kda="rec_kda", mamba2="rec_simple_gla", deltanet="rec_delta")
ceilings, peers = {}, {}
for r in lines("fla.jsonl"):
    ceilings.update(r.get("ceil", {}))
    if "ms" in r:
        shape = f"decode{r['B']}" if r["mode"] == "decode" else f"B{r['B']}T{r['T']}"
        peers[r["op"], shape] = min(r["ms"], r.get("graph_ms", r["ms"]))
copy = ceilings.get("copy_GBps")
if os.path.exists(f"{out}/probe.log"):
    found = [float(x) for x in re.findall(r"^copy .*?(\d+) GB/s", open(f"{out}/probe.log").read(), re.M)]
    if found:
        ceilings["wgpu_copy_GBps"] = max(found)
        copy = copy or max(found)
if ceilings:
    print("ceilings:", json.dumps(ceilings))
head = ("variant", "shape", "stored", "form", "ms", "GFLOP/s", "GB/s", "of copy", "peer ms", "ours/peer")
rows = [head]
for r in lines("ours.jsonl"):
    decode = r["shape"].startswith("decode")
    names = decode_of if decode else peer_of
    peer = peers.get((names.get(r["variant"]), r["shape"]))
    # Decoding reads the state too; tensors stored as f16 take half, states do not.
    states = 4 * r["batch"] * r["heads"] * r["k"] * r["v"]
    moved = r["bytes"] - states if r["precision"] == "f32" else (r["bytes"] - states) / 2
    rate = (moved + (2 if decode else 1) * states) / r["median_ms"] / 1e6
    rows.append((r["variant"], r["shape"], r["precision"], " ".join([r["form"], r.get("schedule") or ""]).strip(),
                 f"{r['median_ms']:.4f}", f"{r['gflops']:.0f}", f"{rate:.0f}", f"{rate / copy:.0%}" if copy else "-",
                 f"{peer:.4f}" if peer else "-", f"{r['median_ms'] / peer:.2f}" if peer else "-"))
widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
for row in rows:
    print("  ".join(cell.ljust(w) if i < 4 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))))
PY
echo
echo "done in $SECONDS s; logs in $out"
