"""The model card of a fused run."""

from localtune.job import Job, versions
from localtune.modelcard import model_card, stated_licence
from localtune.proof import Proof

METHODS = {"lora": "LoRA", "qlora": "QLoRA"}
LOSSES = {"base": "loss of the base", "tuned": "loss while training ended", "weights": "loss of this model"}
"""What is measured at the compared positions, by who says it."""


def card_of(job: Job, proof: Proof | None) -> str:
    """The card: settings, losses and versions; no rows."""
    recipe, train = job.recipe, job.recipe.train
    settings = {
        "rows": job.plan.train_rows,
        "updates": job.plan.schedule.steps,
        "batch size": train.batch_size,
        "learning rate": job.plan.schedule.peak,
        "learned": train.learn,
        "adapter": f"rank {recipe.lora.rank}, alpha {recipe.lora.alpha:g}, {recipe.lora.targets}",
        "seed": train.seed,
    }
    return model_card(
        name=recipe.name or "tuned",
        base=job.model.name,
        revision=job.model.revision,
        method=METHODS[train.method],
        licence=stated_licence(job.model.folder),
        recipe=settings,
        measured={LOSSES[who]: loss for who, loss in proof.losses.items()} if proof else {},
        versions=versions(job.plan.device.backend),
    )
