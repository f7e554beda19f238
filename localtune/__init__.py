"""Fine-tune a language model on your own machine, and get exactly the model you trained."""

__version__ = "0.1.0"
