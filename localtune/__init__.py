"""Fine-tune a language model on your own machine, and chat with exactly the model you trained."""

__version__ = "0.1.0"
