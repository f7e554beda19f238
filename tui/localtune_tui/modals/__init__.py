"""Dialogs: each asks one thing and hands back the answer."""
