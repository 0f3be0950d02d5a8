#!/bin/sh
# `make demo`: build the command, get an encoder, index the READMEs of the crates it was built from, ask.
set -eu
cd "$(dirname "$0")/.."
database=demo/crates.stratal
# One to two minutes of encoding on two cores; without a bound a long-used registry would take far longer.
passages=${DEMO_PASSAGES:-8000}

echo "1. Building the command (minutes, the first time)"
cargo build --release --features cli --bin stratal
stratal="${CARGO_TARGET_DIR:-target}/release/stratal"

echo "2. Getting an encoder into the user's cache"
"$stratal" model fetch

echo "3. Indexing the READMEs of the crates it was built from: $passages passages at most"
mkdir -p demo/crates
for readme in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/*/README.md; do
    crate=$(basename "$(dirname "$readme")")
    cp "$readme" "demo/crates/$crate.md"
done
"$stratal" add "$database" demo/crates --collection crates --limit "$passages" || [ $? -eq 3 ]

for question in \
    "how do I turn on SIMD or AVX instructions at run time?" \
    "parse command line arguments into a struct" \
    "memory map a file safely"; do
    echo
    echo "\$ stratal search $database \"$question\" -k 3"
    "$stratal" search "$database" "$question" -k 3
done

cat <<END

Now a folder of your own:
  $stratal add notes.stratal ~/notes --collection notes
  $stratal search notes.stratal "what was decided about backups?"
END
