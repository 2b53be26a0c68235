"""The command table. Only the standard library and jsonargparse load here, so that `--help` answers at once."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from rebasin_lt import __version__
from rebasin_lt.commands.completion import print_completion
from rebasin_lt.commands.near_misses import with_meant
from rebasin_lt.commands.spelling import (
    check_command,
    lightning_settings,
    listed_settings,
    spelled_out,
    with_classes_spelled,
    with_names_spelled,
    with_underscores,
)
from rebasin_lt.commands.table import COMMANDS, Command
from rebasin_lt.errors import InputError, RebasinError, out_of_memory
from rebasin_lt.process.host_memory import keep_freed_memory
from rebasin_lt.process.stop_request import Stopped, stop_request
from rebasin_lt.process.terminal_text import on_terminal, say
from rebasin_lt.settings.config_files import with_configs_found
from rebasin_lt.storage.folder_lock import release_all
from rebasin_lt.storage.paths import with_paths_expanded

LIGHTNING = {
    "fit": "Train: dense, with iterative magnitude pruning, or under a mask (LightningCLI).",
    "validate": "Evaluate a checkpoint on the validation split.",
    "test": "Evaluate a checkpoint on the test split.",
    "predict": "Class probabilities of a checkpoint on the test split.",
}

FAILED, WRONG_USAGE, PREEMPTED, INTERRUPTED = 1, 2, 75, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage, 75 terminated, 130 interrupted."""
    if argv is not None:
        return _run(argv)
    stop_request.hold()  # the process is ours
    keep_freed_memory()
    try:
        return _run(sys.argv[1:])
    finally:
        stop_request.ignore()


def _run(argv: Sequence[str]) -> int:
    arguments = list(argv)
    debug = "--debug" in arguments
    arguments = with_underscores([argument for argument in arguments if argument != "--debug"])
    try:
        if arguments[:1] != ["fit"]:  # which stops where it can go on
            stop_request.stop_at_once()
        if arguments[:1] and arguments[0].startswith("--print_completion"):
            shell = "".join(arguments).removeprefix("--print_completion").removeprefix("=")
            print_completion(shell, LIGHTNING)
            return 0
        check_command(arguments[0] if arguments else "-", [*LIGHTNING, *COMMANDS])
        if arguments[:1] and arguments[0] in LIGHTNING:
            arguments = with_configs_found(with_classes_spelled(arguments), lightning_settings)
            with stop_request if arguments[0] == "fit" else nullcontext():
                from rebasin_lt.commands.lightning_verbs import run  # the first import of torch and lightning

                run(arguments)
        else:
            _run_own(arguments)
    except (Exception, KeyboardInterrupt, SystemExit, Stopped) as error:
        if debug or (isinstance(error, SystemExit) and not _stopped(error)):
            raise
        message, code = explained(error, arguments[0] if arguments else "")
        say(f"rebasin-lt: error: {message}", file=sys.stderr)
        return code
    finally:
        release_all()
    return 0


def explained(error: BaseException, command: str = "") -> tuple[str, int]:
    """One line that says what is wrong with a command, and the exit code.

    jsonargparse wraps what a constructor raises, and its own findings, in reports of every type it tried: the causes
    behind them hold what matters.
    """
    stopped = _stopped(error)
    if stopped:
        return f"{stopped}; the same command goes on from here", INTERRUPTED if stopped == "interrupted" else PREEMPTED
    causes = [cause for cause in _causes(error) if not _took_settings_for_a_path(cause)]
    ours = next((cause for cause in causes if isinstance(cause, RebasinError)), None)
    if ours is not None:
        return one_line(str(ours)), ours.exit_code
    if isinstance(error, ArgumentError):
        report = "\n".join(map(str, causes))
        where = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', report)))
        finding = with_meant(_plain(one_line(str(causes[-1]))), report, where, command)
        return f"{where}: {finding}" if where else finding, WRONG_USAGE
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, of trainer settings and modules
        return f"{one_line(str(error))} (--debug shows where)", WRONG_USAGE
    if isinstance(error, OSError):  # a full disk, a folder that cannot be written
        return one_line(f"{error.filename or 'file'}: {error.strerror or error}"), FAILED
    full = out_of_memory(error)
    return f"{full or f'{type(error).__name__}: {one_line(str(error))}'} (--debug shows where)", FAILED


def _stopped(error: BaseException) -> str:
    """What stopped a run from outside, if anything did. Lightning turns both into SystemExit after a clean shutdown."""
    if isinstance(error, Stopped):
        return str(error)
    if type(error).__name__ == "SIGTERMException":
        return "terminated"
    causes = _causes(error) if isinstance(error, SystemExit) else [error]
    return "interrupted" if any(isinstance(cause, KeyboardInterrupt) for cause in causes) else ""


def one_line(message: str) -> str:
    """A message without line breaks, and without what else would move a terminal's cursor: names come out of files."""
    return on_terminal(" ".join(message.split()))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _took_settings_for_a_path(cause: BaseException) -> bool:
    """True of what a parser says first of settings that it is handed as text: it quotes lines, where a path has one."""
    return re.match(r"File does not exist: .*(\n|\\n)", str(cause), re.DOTALL) is not None


def _plain(message: str) -> str:
    """A parser's finding in words that people use."""
    message = re.sub(r'^Parser key "[^"]+": ?', "", message)
    message = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", message).replace("Expected a tuple", "Expected a list")
    return re.sub(r"(Expected a list\. Got value: )([^\[\]{}]+)$", r"\1\2; write it as [\2]", message)


def _run_own(arguments: list[str]) -> None:
    parser = ArgumentParser(
        prog="rebasin-lt",
        version=__version__,
        exit_on_error=False,
        allow_abbrev=False,  # else `--mask` would be `--masks`; subcommands follow
        description="Align sparse masks with weight symmetry: prune A, match A to B, train B under the permuted mask.",
        epilog="Flags take dashes or underscores. `rebasin-lt COMMAND --help` explains each; --debug shows tracebacks; "
        "--print-completion SHELL completes commands and options.",
    )
    commands = parser.add_subcommands(required=True, dest="command", title="commands")
    for name, text in LIGHTNING.items():
        commands.add_subcommand(name, ArgumentParser(description=text), help=text)
    for name, command in COMMANDS.items():
        called = _parser_of(command) if name in arguments else ArgumentParser(description=command.summary)
        commands.add_subcommand(name, called, help=command.summary)
    if arguments[:1] and arguments[0] in COMMANDS:
        command = COMMANDS[arguments[0]]
        words = spelled_out(arguments[1:], command.types, command.positional_list)
        words = with_configs_found(words, lambda settings: listed_settings(settings, command.types))
        arguments = [arguments[0], *words]
    parsed = with_paths_expanded(parser.parse_args(arguments))
    parsed[parsed.command] = with_names_spelled(parsed[parsed.command])
    _check_groups(parsed[parsed.command], COMMANDS[parsed.command].types)
    options = parser.instantiate(parsed)[parsed.command].as_dict()
    COMMANDS[parsed.command].run(parsed.command, options)


def _parser_of(command: Command) -> ArgumentParser:
    """A parser of the command's options, which are the fields of its classes."""
    parser = ArgumentParser(description=command.summary, exit_on_error=False)
    parser.add_argument("-c", "--config", action="config", help="YAML file with any of the options below")
    if command.show:
        parser.add_argument("--out", type=str, required=True, help=command.out)
    for kind in command.classes:
        parser.add_class_arguments(kind, as_group=False, as_positional=command.positional, fail_untyped=True)
    for action in parser._actions:
        if action.dest == command.positional_list:
            action.metavar = action.dest[:-1].upper()
        if names := command.choices.get(action.dest):
            action.help = f"{action.help} ({', '.join(names)})"
    return parser


def _check_groups(options: Namespace, types: Mapping[str, object]) -> None:
    """Refuse what is no mapping where one is expected, such as `recipe:` with nothing below it."""
    for name, kind in types.items():
        if dataclasses.is_dataclass(kind) and not isinstance(options[name], Namespace):
            raise InputError(f"{name} is {options[name]!r}, expected settings by name: give some, or leave it out")


if __name__ == "__main__":
    sys.exit(main())
