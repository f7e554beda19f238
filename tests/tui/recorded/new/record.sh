#!/bin/sh
# Records what the command line says of the quickstart and of dirty.jsonl, for the tests of New and Data to replay.
# Run it in the repository's root, with localtune installed.
set -u
here=tests/tui/recorded/new
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 LOCALTUNE_RUNS=/home/you/runs
model=recipes/quickstart/model
localtune plan recipes/quickstart/recipe.yaml --no-download --json >$here/plan.json
localtune plan recipes/quickstart/recipe.yaml --no-download --json --set train.memory_limit=100MB \
  >$here/plan-too-big.json 2>$here/plan-too-big.txt
localtune data show recipes/quickstart/recipe.yaml -n 3 --json >$here/show.json
localtune data show $here/dirty.jsonl -m $model -n 2 --ids --json >$here/dirty-show.json 2>/dev/null
localtune data list $here/dirty.jsonl -m $model --set data.max_tokens=100 --json --text >$here/dirty-list.jsonl
localtune data check $here/dirty.jsonl -m $model --set data.max_tokens=100 --json >$here/dirty-check.json
exit 0
