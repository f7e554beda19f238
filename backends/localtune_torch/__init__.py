"""The PyTorch backend: transformers' models, peft's LoRA layers, bitsandbytes' NF4; loss, update and loop are ours."""
