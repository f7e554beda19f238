"""`localtune merge`: several LoRA adapters of one base as one."""

from dataclasses import asdict
from pathlib import Path

import click

from localtune.cli.making import made, path_of
from localtune.cli.options import to_json
from localtune.errors import InputError, Problem
from localtune.merging import How, merge
from localtune.products import writing
from localtune.typed import typed


@click.command("merge")
@click.argument("adapters", metavar="A B …", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, help="Folder of the merged adapter.")
@click.option("--how", type=click.Choice(["linear", "ties", "dare"]), default="linear", show_default=True)
@click.option("--weights", metavar="W,W,…", help="One per adapter; default: equal, their sum 1, for ties 1 each.")
@click.option("--density", type=float, default=0.5, show_default=True, help="Share of values that ties and dare keep.")
@click.option("--rank", type=int, help="Rank of the result; default: linear the sum, else the largest.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the values that dare drops.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def merge_command(
    adapters: tuple[Path, ...],
    output: str,
    how: How,
    weights: str | None,
    density: float,
    rank: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Make one adapter of several of the same base: their weighted sum, TIES, or DARE."""
    folder = path_of(output)
    assert folder is not None
    with writing(folder.parent):
        done = merge(adapters, folder, how=how, weights=_numbers(weights), density=density, seed=seed, rank=rank)
    if as_json:
        click.echo(to_json({"folder": str(folder)} | asdict(done)))
        return
    click.echo(made(folder))
    module, share = done.kept_least
    kept = "nothing was cut" if done.kept == 1 else f"{done.kept:.2%} is left, least {share:.2%} in {module}"
    more = "; a higher --rank keeps more" if done.kept < 0.95 else ""
    click.echo(f"rank {done.rank}, {len(done.modules)} modules; of the merged change {kept}{more}", err=True)
    adapter = typed(folder)
    ways = (f"fuse {adapter} -o FUSED", f"export {adapter} --adapter", f"push {adapter} --to OWNER/NAME")
    click.echo(f"next: {'   or   '.join(f'localtune {way}' for way in ways)}", err=True)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        what = f"{text!r} is no list of numbers"
        raise InputError(Problem("merge.weights", what, "--weights", fix="--weights 0.5,0.5")) from None
