#!/bin/sh
# Make two environments from wheels (all of it; and what a user of one connector and files needs), and fill the table.
# ROUNDS=5 sets how often each work is done; MEMORY=1 adds the runs over ten million records (some ten minutes).
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.tools/bin/uv}
place=${BENCH:-.bench}
rm -rf "$place/wheels"
for member in core plugins benchmarks/connector_bench; do
    "$uv" build -q --no-sources --wheel --out-dir "$place/wheels" "$member"
done
for name in whole small; do
    [ -d "$place/$name" ] || "$uv" venv -q --python .venv/bin/python "$place/$name"
    "$uv" pip install -q --compile-bytecode --no-sources --python "$place/$name/bin/python" \
        --reinstall-package penstock-core --reinstall-package penstock-plugins --reinstall-package connector-bench \
        "$place"/wheels/*.whl
done
"$uv" pip install -q --compile-bytecode --python "$place/whole/bin/python" orjson 'psycopg[binary]>=3.2'
"$place/whole/bin/python" benchmarks/table.py --rounds "${ROUNDS:-5}" --small "$place/small"
if [ -n "${MEMORY:-}" ]; then
    "$place/whole/bin/python" benchmarks/memory.py
fi
