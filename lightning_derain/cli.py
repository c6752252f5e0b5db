"""`python -m lightning_derain VERB`: one command line, which imports nothing heavy before a verb needs it."""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import docstring_parser

from lightning_derain.errors import UserError
from lightning_derain.startup import without_collector

TRAINER_VERBS = {
    "fit": "train a model on a benchmark",
    "validate": "score a model on a benchmark's validation images",
    "test": "score a model on a benchmark's test images",
    "predict": "derain a benchmark's images and write them",
}
"""Verbs of Lightning's Trainer; `lightning_derain.training` runs them."""

VERBS: dict[str, tuple[str, str, str]] = {
    "train": ("lightning_derain.verbs.train", "train", "run a list of trainings in legs, for hours on a small machine"),
    "derain": ("lightning_derain.inference", "derain", "derain photographs"),
    "score": ("lightning_derain.score", "score", "PSNR and SSIM of a folder of results, under every protocol; or NIQE"),
    "score pristine": ("lightning_derain.blind", "score_pristine", "what NIQE compares with, of clean photographs"),
    "weights list": (
        "lightning_derain.weights.commands",
        "weights_list",
        "official checkpoints: where, licence, figures",
    ),
    "weights inspect": ("lightning_derain.weights.commands", "weights_inspect", "what a checkpoint is"),
    "weights convert": ("lightning_derain.weights.commands", "weights_convert", "an official file as one of ours"),
    "report": ("lightning_derain.report", "report", "a page with before/after sliders"),
    "report study": ("lightning_derain.report.study", "report_study", "a page of blind comparisons, for a user study"),
    "report rank": ("lightning_derain.report.rank", "report_rank", "rank products and strengths out of its answers"),
    "reproduce": ("lightning_derain.reproduce", "reproduce", "make a paper's table: ours beside the printed figures"),
    "reproduce list": ("lightning_derain.reproduce", "reproduce_list", "the tables, and which cells can run here"),
    "data list": ("lightning_derain.data.commands", "data_list", "the benchmarks, what they need and where to get it"),
    "data where": ("lightning_derain.data.commands", "data_where", "where to get a benchmark, and how it may lie"),
    "data verify": ("lightning_derain.data.commands", "data_verify", "which version of a benchmark lies in a folder"),
    "data stats": ("lightning_derain.data.stats", "data_stats", "sizes, rain, PSNR and SSIM of a benchmark's splits"),
    "data overlap": ("lightning_derain.data.overlap", "data_overlap", "which backgrounds two sets share"),
    "data samples": ("lightning_derain.rain.synthesize", "data_samples", "write the embedded photographs as pairs"),
    "data prepare": (
        "lightning_derain.data.prepare",
        "data_prepare",
        "side-by-side files split, or rain written, once",
    ),
    "data synthesize": ("lightning_derain.rain.synthesize", "data_synthesize", "rain on your own clean photographs"),
    "data rains": ("lightning_derain.rain.sheet", "data_rains", "draw all rains side by side, in one picture"),
}
"""Verb: module, function, one line of help. The function's signature and docstring are its command line."""

POSITIONAL = frozenset({"inputs", "file", "name", "root", "input_dir", "output_dir", "table", "first", "second"})
"""Parameters that are given without a dash; those with a default may be left out."""


PASSED_ON = "trainer_options"
"""The parameter of a verb that takes `--trainer.OPTION VALUE` as they are."""


def main(argv: Sequence[str]) -> int:
    """Runs one verb.

    Args:
        argv: the command line after `python -m lightning_derain`.

    Returns:
        The exit code: 0 done, 1 done but something failed (said above it), 2 a mistake of the user, 130 interrupted,
        143 terminated.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged files are said in a sentence
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        return _dispatch(list(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0 if argv else 2
    if argv[0] == "--version":
        from lightning_derain import __version__

        print(f"lightning-derain {__version__}")
        return 0
    if argv[0] in TRAINER_VERBS:
        return _train(argv)
    for words in (2, 1):
        if (verb := " ".join(argv[:words])) in VERBS:
            return _run(verb, argv[words:])
    group = f"{argv[0]} "
    if any(verb.startswith(group) for verb in VERBS):
        if argv[1:] in ([], ["-h"], ["--help"]):
            print(_help(group))
            return 0 if len(argv) > 1 else 2
        verb = " ".join(argv[:2])
    raise UserError(f"There is no verb {verb!r}{nearest(verb, [*TRAINER_VERBS, *VERBS])}; --help lists them.")


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` for the known word most like `word`; empty when none is."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _help(prefix: str = "") -> str:
    lines = {**TRAINER_VERBS, **{verb: text for verb, (_, _, text) in VERBS.items()}}
    shown = {verb: text for verb, text in lines.items() if verb.startswith(prefix)}
    verbs = "\n".join(f"  {verb:<16}{text}" for verb, text in shown.items())
    return (
        "usage: python -m lightning_derain VERB ...\n\n"
        "Single-image deraining: train, measure, compare, use.\n\n"
        f"verbs (each has --help):\n{verbs}\n\noptions:\n  --help, --version"
    )


def _train(argv: list[str]) -> int:
    from lightning_derain.configs import check_config_files

    check_config_files(argv)
    with without_collector():
        from lightning_derain.training import run

    return run(argv)


def _run(verb: str, argv: list[str]) -> int:
    module, name, _ = VERBS[verb]
    with without_collector():
        function: Callable[..., int] = getattr(importlib.import_module(module), name)
    return function(**_parse(verb, function, argv))


class _Parser(argparse.ArgumentParser):
    """Raises what argparse would print, with the nearest known option."""

    def error(self, message: str) -> NoReturn:
        options = [option for action in self._actions for option in action.option_strings]
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        hint = nearest(unknown[1], options) if unknown else ""
        raise UserError(f"{message}{hint} ({self.prog} --help shows what there is).")


def _parse(verb: str, function: Callable[..., int], argv: list[str]) -> dict[str, Any]:
    parser = build_parser(verb, function)
    if PASSED_ON not in inspect.signature(function).parameters:
        return vars(parser.parse_args(argv))
    options, argv = _trainer_options(argv)
    return {**vars(parser.parse_args(argv)), PASSED_ON: options}


def _trainer_options(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options of Lightning's Trainer in a command line by name, such as `devices`, and the rest."""
    options: dict[str, str] = {}
    rest = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if not name.startswith("--trainer."):
            rest.append(word)
            continue
        following = value if equals else next(words, None)
        if following is None:
            raise UserError(f"{name} has no value; give one, as in --trainer.devices 2.")
        options[name.removeprefix("--trainer.")] = following
    return options, rest


def build_parser(verb: str, function: Callable[..., int]) -> argparse.ArgumentParser:
    """The command line of a verb, from its function's signature and Google docstring.

    jsonargparse, which serves Lightning's verbs, has neither flags nor lists without brackets for signatures.
    """
    documentation = docstring_parser.parse(function.__doc__ or "")
    texts = {parameter.arg_name: parameter.description or "" for parameter in documentation.params}
    description = "\n\n".join(filter(None, (documentation.short_description, documentation.long_description)))
    parser = _Parser(
        prog=f"python -m lightning_derain {verb}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    types = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name != PASSED_ON:
            _add(parser, name, parameter.default, types[name], texts[name].replace("%", "%%"))
    return parser


def _add(parser: argparse.ArgumentParser, name: str, default: Any, kind: Any, text: str) -> None:
    required = default is inspect.Parameter.empty
    members = [member for member in get_args(kind) if member is not type(None)]
    if get_origin(kind) in (Union, UnionType) and len(members) == 1:
        kind = members[0]
    silent = required or default is None or default is False
    options: dict[str, Any] = {"help": text if silent else f"{text} (default: {default})"}
    if kind is bool:
        options["action"] = "store_true"
    elif get_origin(kind) is Literal:
        options["choices"] = get_args(kind)
    elif get_origin(kind) is list:
        options |= {"nargs": "+", "action": "extend", "type": get_args(kind)[0]}
    else:
        options["type"] = kind
    if name in POSITIONAL:
        parser.add_argument(name, **options, **({} if required else {"nargs": "?", "default": default}))
    else:
        parser.add_argument(
            f"--{name.replace('_', '-')}", required=required, default=None if required else default, **options
        )
