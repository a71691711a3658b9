"""The command line: one verb per stage; parsing and printing only."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .core import memory
from .errors import UserError

if TYPE_CHECKING:
    from .config import Config

EXAMPLES = {
    "run": "synthimg run configs/quickstart.yaml seed=1 name=quickstart-1",
    "prepare": "synthimg prepare configs/quickstart.yaml",
    "finetune": "accelerate launch -m synthimg finetune configs/sd15-lora.yaml dataset.path=/data/ham10000",
    "generate": "synthimg generate configs/quickstart.yaml",
    "filter": "synthimg filter configs/quickstart.yaml",
    "classify": "synthimg classify configs/quickstart.yaml part.fold=0 part.draw=2",
    "evaluate": "synthimg evaluate configs/quickstart.yaml",
    "report": "synthimg report configs/quickstart.yaml",
    "compare": "synthimg compare outputs/quickstart outputs/quickstart-1",
    "augment": "synthimg augment outputs/quickstart --to data/solar-cells-augmented",
    "edit": 'synthimg edit outputs/quickstart panel.jpg "add a crack" --to cracked.png',
    "init": "synthimg init data/my-photographs",
    "runs": "synthimg runs outputs",
    "clean": "synthimg clean outputs --dry-run",
    "doctor": "synthimg doctor",
    "pretrain": "synthimg pretrain configs/base-model.yaml",
}
HELP = {
    "run": "every stage that is not done yet, then the closing table",
    "prepare": "read the data set: consent, splits, pixels, attributes",
    "finetune": "adapt the base model to the training images",
    "generate": "plan and draw rare-class images, then filter them",
    "filter": "accept or reject the drawn images",
    "classify": "train every arm's classifier on each part",
    "evaluate": "image quality and, above all, recall on real images",
    "report": "one self-contained HTML page",
    "compare": "recall reports of several runs side by side",
    "augment": "real training split + accepted synthetic images as an image folder",
    "edit": "change a picture, or a folder of pictures, by an instruction",
    "init": "look at a data set and write a commented configuration for it",
    "runs": "the runs in an outputs folder: stages done, size, verdict",
    "clean": "free the work of stages to which no run refers",
    "doctor": "what this machine can run",
    "pretrain": "train the embedded base model from scratch",
}
STAGE_VERBS = ("run", "prepare", "finetune", "generate", "filter", "classify", "evaluate", "report")


def main(arguments: list[str] | None = None) -> None:
    """Entry point; exits 0 when done, 2 for what the user can mend, 130 on Ctrl-C, 1 for a fault of the program."""
    options = parsed(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file may be no text
    _quiet()
    memory.keep_freed()
    try:
        verb(options)
        _disconnect()
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("\nstopped; the same command continues where it was", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if _is_full(error):
            where = getattr(error, "filename", None) or "the disk"
            _fail(f"{where}: no space left; free some and give the same command again: nothing is lost")
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            _fail(f"{error.filename}: {error.strerror}")
        raise


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; overrides may stand before or behind an option, which argparse alone refuses."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or "=" not in text or not hasattr(options, "overrides")]
    if unknown:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.overrides += rest
    return options


def _at_least(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    """What reads a number of the command line that must not be smaller."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind("-1")
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"expected a number from {least} on, found '{text}'")
        return value

    return read


def _is_full(error: BaseException) -> bool:
    """Whether a disk is full or a quota or file size limit reached; safetensors says so in words only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(f"(os error {number})" in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def parser() -> argparse.ArgumentParser:
    """All verbs and their arguments."""
    top = argparse.ArgumentParser(
        prog="synthimg", description="Synthetic images for rare classes, judged by recall on real ones."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in HELP.items():
        sub = verbs.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=f"example: {EXAMPLES[name]}"
        )
        if name in STAGE_VERBS:
            sub.add_argument("config", metavar="CONFIG", help="a YAML file, see configs/")
            sub.add_argument("overrides", nargs="*", metavar="key.sub=value", help="change keys of the configuration")
            if name in ("run", "prepare"):
                sub.add_argument("--strict", action="store_true", help="refuse a data set that `prepare` warns of")
            if name == "generate":
                sub.add_argument(
                    "--preview", action="store_true", help="only draw a picture of each cell of the attribute grid"
                )
        elif name == "compare":
            sub.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, e.g. outputs/quickstart")
            sub.add_argument("--to", type=Path, metavar="FILE", help="the page to write (default: beside the first run)")
        elif name == "augment":
            sub.add_argument("run", type=Path, metavar="RUN", help="a run folder, e.g. outputs/quickstart")
            sub.add_argument("--to", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
        elif name == "edit":
            _edit_arguments(sub)
        elif name == "init":
            sub.add_argument("folder", type=Path, metavar="FOLDER", help="an image folder, or a folder or file with a table")
        elif name in ("runs", "clean"):
            sub.add_argument("outputs", nargs="?", type=Path, default=Path("outputs"), metavar="OUTPUTS")
            if name == "clean":
                sub.add_argument("--dry-run", action="store_true", help="say what would be freed, and free nothing")
        elif name == "pretrain":
            sub.add_argument("config", type=Path, metavar="CONFIG")
            sub.add_argument("--to", type=Path, metavar="DIR", help="where the model goes (default: <work>/model)")
    return top


def _edit_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="BASE-OR-RUN", help="a run with finetune.edits, or a base that can edit")
    sub.add_argument("source", type=Path, metavar="IMAGE", help="an image file, or a folder of them")
    sub.add_argument("instruction", metavar="INSTRUCTION", help='what is to change, such as "add a crack"')
    sub.add_argument("--to", type=Path, required=True, metavar="FILE", help="a PNG file; for a folder, a new folder")
    sub.add_argument("--steps", type=_at_least(int, 1), default=20, help="solver steps (default: %(default)s)")
    sub.add_argument(
        "--guidance", type=_at_least(float, 1), default=5.0, help="towards the instruction (default: %(default)s)"
    )
    sub.add_argument(
        "--image-guidance", type=_at_least(float, 1), default=1.5, help="towards the picture (default: %(default)s)"
    )
    sub.add_argument("--seed", type=int, default=0, help="another one, another result (default: %(default)s)")


def verb(options: argparse.Namespace) -> None:
    """Carry out the parsed command. Imports lie here, so that --help answers at once."""
    actions: dict[str, Callable[[argparse.Namespace], None]] = {
        "compare": _compare, "augment": _augment, "init": _init, "runs": _runs, "clean": _clean, "doctor": _doctor,
        "pretrain": _pretrain, "edit": _edit,
    }  # fmt: skip
    actions.get(options.verb, _stage)(options)


def _stage(options: argparse.Namespace) -> None:
    from .reading import load_config

    strict = ["dataset.strict=true"] if getattr(options, "strict", False) else []
    config = load_config(options.config, [*options.overrides, *strict])
    from . import pipeline as flow
    from .core.stage import check

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts, one judges and speaks for all
    check(config)
    if getattr(options, "preview", False):
        from .tools.preview import preview_grid

        print(f"done: {preview_grid(config)}")
        return
    if options.verb == "run":
        flow.run(config, announce=_say if first else lambda text: None)
    else:
        before = {"evaluate": ["classify"]}.get(options.verb, []) if first else []
        for name in [*before, options.verb, *(["filter"] if options.verb == "generate" and first else [])]:
            flow.STAGES[name](config)
    if not first:
        return
    if options.verb in ("run", "evaluate", "report") and not config.part:
        _closing(config)
    else:
        print(f"done: {config.folder}")


def _closing(config: Config) -> None:
    from .pipeline import timings
    from .reporting.compare import table
    from .reporting.runs import load

    print()
    (evaluated,) = load([config.root])
    print(table([evaluated]))
    spent = timings(config)
    minutes = sum(entry["seconds"] for entry in spent.values()) / 60
    peak = max((entry["peak_memory_mib"] for entry in spent.values()), default=0)
    parts = ", ".join(f"{name} {entry['seconds']:.0f} s" for name, entry in spent.items())
    print(f"\n{minutes:.1f} minutes ({parts}); peak memory {peak / 1024:.1f} GiB")
    print(f"\n{evaluated.verdict.headline}")
    for text in evaluated.verdict.sentences()[1:]:
        print(f"  - {text}")
    page = config.root / "report.html"
    if page.exists():
        print(f"\nreport: {page}")


def _compare(options: argparse.Namespace) -> None:
    from .reporting.compare import compare_runs, table
    from .reporting.runs import load

    page = compare_runs(options.runs, options.to)
    print(f"\n{table(load(options.runs))}\n\ncomparison: {page}")


def _say(text: str) -> None:
    print(text, flush=True)


def _augment(options: argparse.Namespace) -> None:
    from .tools.augment import augment_dataset

    print(f"done: {augment_dataset(options.run, options.to)}")


def _edit(options: argparse.Namespace) -> None:
    from .tools.edit import Strength, edit_images

    how = Strength(options.steps, options.guidance, options.image_guidance, options.seed)
    print(f"done: {edit_images(options.model, options.source, options.instruction, options.to, how)}")


def _init(options: argparse.Namespace) -> None:
    from .tools.init import write_config

    print(f"then: synthimg run {write_config(options.folder)}")


def _runs(options: argparse.Namespace) -> None:
    from .tools.store import list_runs

    found = list_runs(options.outputs)
    width = max((len(run.name) for run in found), default=0)
    for run in found:
        print(f"{run.name:{width}}  {run.mib:8.1f} MiB  {', '.join(run.done) or 'nothing done'}")
        if run.verdict:
            print(f"{'':{width}}  {run.verdict}")
    print(f"{len(found)} runs in {options.outputs}; what several share is counted for each")


def _clean(options: argparse.Namespace) -> None:
    from .tools.store import free_store

    freed = free_store(options.outputs, options.dry_run)
    for name, mib in freed.items():
        print(f"{mib:8.1f} MiB  {name}")
    print(f"{'would free' if options.dry_run else 'freed'} {sum(freed.values()):.1f} MiB to which no run refers")


def _doctor(options: argparse.Namespace) -> None:
    from .tools.doctor import describe_machine

    print(describe_machine())


def _pretrain(options: argparse.Namespace) -> None:
    from .pretrain.training import pretrain_base

    print(f"done: {pretrain_base(options.config, options.to)}")


def _quiet() -> None:
    """Leave the terminal to our own progress bars: other libraries' chatter goes unless asked for.

    What they warn of and a user can mend, the stages say themselves: captions that are too long (diffusion/limit.py),
    pictures that are too large or broken (excluded.csv), weights of another kind (diffusion/kinds.py).
    """
    if os.environ.get("SYNTHIMG_DEBUG"):
        return
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("accelerate", "diffusers", "transformers", "peft", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _disconnect() -> None:
    """Leave the group of processes that `accelerate launch` or `torchrun` started, if there is one."""
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _fail(text: str) -> None:
    print(f"synthimg: {text}", file=sys.stderr)
    sys.exit(2)
