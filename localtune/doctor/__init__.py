"""What this machine has for localtune and what it lacks, each with the command that mends it.

All looks together end within seconds, but for the backends, whose libraries may take a minute to load. Nothing is
downloaded or changed, no secret is shown, and the only connection is one to an Ollama server on this machine. The
module itself needs the standard library alone, so it answers also where a dependency is missing.
"""

from localtune.doctor.finding import Finding as Finding
from localtune.doctor.finding import Look as Look
from localtune.doctor.finding import can_train as can_train
from localtune.doctor.finding import examine as examine
from localtune.doctor.folders import hub_cache, hub_token, offline, runs
from localtune.doctor.machine import SMI_SECONDS, memory, nvidia, python_and_system
from localtune.doctor.packages import LOAD_SECONDS, required, runs_gguf, writes_gguf
from localtune.doctor.programs import llama_cpp, lm_studio, ollama
from localtune.doctor.training import PROBE_SECONDS, backends, qlora

LOOKS = (
    Look("machine", "system", python_and_system, 2),
    Look("machine", "memory", memory, 2),
    Look("machine", "nvidia card", nvidia, SMI_SECONDS + 0.5),
    Look("training", "backends", backends, PROBE_SECONDS + 10, needed=True),
    Look("training", "qlora", qlora, 2),
    Look("packages", "packages", required, 3),
    Look("export", "gguf", writes_gguf, 3),
    Look("export", "xllamacpp", runs_gguf, LOAD_SECONDS + 0.5),
    Look("folders", "runs", runs, 3, needed=True),
    Look("folders", "hub cache", hub_cache, 3),
    Look("hub", "hub token", hub_token, 2),
    Look("hub", "downloads", offline, 2),
    Look("chat", "ollama", ollama, 2),
    Look("chat", "lm studio", lm_studio, 2),
    Look("chat", "llama.cpp", llama_cpp, 2),
)
"""Everything that is looked at, in the order in which it is said; the numbers are seconds."""
