"""The full-screen app: it watches run folders and starts the command line; it never trains itself."""
