"""Completion as a script of a shell: all words are in it, so that an answer starts no process."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Words(NamedTuple):
    """What can be completed.

    Attributes:
        commands: Commands with what each does.
        options: The options of each command, dashes included.
        values: The values of options that take one of some names; ``--config`` also takes a file.
        behind: What stands behind a command by itself, where that is one of some names.
        packages: Folders that change where a package is installed, which may bring names.
        stamp: A file that is as new as the words; None where none can be kept.
    """

    commands: Mapping[str, str]
    options: Mapping[str, Sequence[str]]
    values: Mapping[str, Sequence[str]]
    behind: Mapping[str, Sequence[str]]
    packages: Sequence[Path]
    stamp: Path | None


def script(shell: str, words: Words) -> str:
    """Return the script of ``bash``, ``zsh`` or ``fish``."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](words)


_BASH = """\
# Completion of poolformer: eval "$(poolformer completion bash)"
_poolformer() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= word= list= files=
{anew}
    if [[ $cur == '=' ]]; then cur=
    elif [[ $prev == '=' ]]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in {commands}) command=$word; break;; esac
    done
{lists}
    COMPREPLY=($(compgen -W "$list" -- "$cur"))
    if [[ $files ]]; then COMPREPLY+=($(compgen -f -- "$cur")); fi
}}
complete -o bashdefault -o default -F _poolformer poolformer
"""

_ZSH = """\
#compdef poolformer
# Completion of poolformer: eval "$(poolformer completion zsh)"
_poolformer() {{
    local cur=${{words[CURRENT]}} prev=${{words[CURRENT-1]}} command= word= list= files=
{anew}
    if [[ $cur == --*=* ]]; then prev=${{cur%%=*}}; cur=${{cur#*=}}; compset -P '*='; fi
    for word in ${{words[2,CURRENT-1]}}; do
        case $word in {commands}) command=$word; break;; esac
    done
{lists}
    compadd -- ${{=list}}
    if [[ -z $list || $files ]]; then _files; fi
}}
if (( ! $+functions[compdef] )); then autoload -Uz compinit && compinit -u; fi
compdef _poolformer poolformer
"""


def _anew(words: Words, shell: str, function: str) -> str:
    """Return lines that take the script anew where a package has been installed since."""
    if words.stamp is None:
        return "    :"
    newer = " || ".join(f"{shlex.quote(str(folder))} -nt {shlex.quote(str(words.stamp))}" for folder in words.packages)
    if not newer:
        return "    :"
    again = f'eval "$(command poolformer completion {shell} 2>/dev/null)"'
    return (
        f"    if [[ -z $_poolformer_anew && ( {newer} ) ]]; then\n"
        f"        {again}\n        local _poolformer_anew=1; {function}; return\n    fi"
    )


def _lists(words: Words) -> str:
    """Return what chooses the words: the same in bash and zsh."""
    lines = ["    case $prev in"]
    by_list: dict[tuple[str, ...], list[str]] = {}
    for option, names in words.values.items():
        by_list.setdefault(tuple(names), []).append(option)
    for names, options in by_list.items():
        files = "; files=1" if {"--config", "--ckpt_path"} & {*options} else ""
        lines.append(f"    {'|'.join(options)}) list={_quoted(names)}{files};;")
    lines += ["    *) case $command in", f"        '') list={_quoted([*words.commands, '--help', '--version'])};;"]
    for command in words.commands:
        behind = words.behind.get(command, ())
        first = f"[[ $cur != -* ]] && list={_quoted(behind)} || " if behind else "[[ $cur == -* ]] && "
        lines.append(f"        {command}) {first}list={_quoted(words.options[command])};;")
    return "\n".join([*lines, "        esac;;", "    esac"])


def _quoted(words: Sequence[str]) -> str:
    return shlex.quote(" ".join(words))


def _bash(words: Words) -> str:
    return _BASH.format(
        commands="|".join(words.commands), lists=_lists(words), anew=_anew(words, "bash", "_poolformer")
    )


def _zsh(words: Words) -> str:
    return _ZSH.format(commands="|".join(words.commands), lists=_lists(words), anew=_anew(words, "zsh", "_poolformer"))


def _fish(words: Words) -> str:
    say = "complete -c poolformer"
    lines = ["# Completion of poolformer: poolformer completion fish | source", f"{say} -e"]
    lines += [
        f"{say} -f -n __fish_use_subcommand -a {shlex.quote(command)} -d {_of_fish(text)}"
        for command, text in words.commands.items()
    ]
    for command, options in words.options.items():
        seen = f"-n '__fish_seen_subcommand_from {command}'"
        if names := words.behind.get(command):
            lines.append(f"{say} {seen} -f -a {_quoted(names)}")
        for option in options:
            names = words.values.get(option)
            files = ["(__fish_complete_path)"] if option in ("--config", "--ckpt_path") else []
            takes = f" -x -a {_quoted([*names, *files])}" if names else ""
            lines.append(f"{say} {seen} -l {option.removeprefix('--')}{takes}")
    return "\n".join(lines) + "\n"


def _of_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
