"""Run folders: what is written, how it survives a crash, and how a run is found, watched and asked to stop."""
