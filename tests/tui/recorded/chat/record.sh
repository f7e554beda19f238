#!/bin/sh
# Records what a true chat and a true export say of the run in ../run, for the tests of Chat and Export to replay.
# Run it in the repository's root, with localtune installed and a run of 60 updates of the quickstart as the last one;
# its name, and the folders' names, are then replaced by those of ../run and /home/you.
set -u
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
question='[{"role": "user", "content": "Get me a taxi from the station to the zoo."}]'
printf '%s\n' "{\"id\": 1, \"who\": \"base\", \"messages\": $question}" \
  "{\"id\": 2, \"who\": \"tuned\", \"messages\": $question}" '{"keep": 2, "good": true}' '{"keep": 2, "good": true}' \
  '{"keep": 9, "good": false}' | localtune chat last --json >tests/tui/recorded/chat/events.jsonl
localtune export last --gguf Q8_0,Q4_K_M --json >tests/tui/recorded/export/events.jsonl
cp "$(localtune runs path last)/export/proof.json" tests/tui/recorded/export/
