"""`adapters`: the group of commands; each command's module is imported when it runs, so that `--help` is quick."""

from __future__ import annotations

import importlib
import sys

import click

# command -> (module, first line of its help): what `adapters --help` shows without importing anything.
COMMANDS = {
    "Daily": {
        "push": ("push", "Store an adapter folder as a new version, locked to its base."),
        "check": ("push", "Say what a push would say, without storing anything."),
        "ls": ("show", "List adapters, or the versions of one."),
        "show": ("show", "Show one version: what it is, its lock, scores, files."),
        "promote": ("promote", "Judge a stage's gates and move the stage to a version."),
        "requests": ("requests", "List and show promotions that wait."),
        "approve": ("requests", "Approve a promotion that waits."),
        "decline": ("requests", "Decline a promotion that waits."),
        "rollback": ("promote", "Move a stage back to an earlier version."),
        "reverify": ("reverify", "Verify again what a stage points to, or list what is due."),
        "history": ("promote", "Show what an adapter's stages pointed to, and when."),
        "pull": ("pull", "Write a version's files into a folder, every digest verified."),
        "export": ("export", "Write a version for a serving stack, plain where the stack reads no more."),
        "sync": ("sync", "Keep folders that serving stacks read at what references mean."),
        "deploy": ("deploy", "Have every replica of a fleet serve a version, tested and all or none."),
        "servable": ("servable", "Say which serving stacks load a version, and with which flags."),
        "resolve": ("pull", "Say which version a reference means now."),
        "score": ("score", "Add or import scores of a version or a base."),
        "sign": ("sign", "Sign a version with a key."),
        "verify": ("sign", "Verify the signatures of a version or a pulled folder."),
        "scan": ("sign", "Look through a version's files for what may run."),
    },
    "Weights": {
        "diff": ("diff", "Measure what changed between two versions."),
        "merge": ("merge", "Merge adapters into their base: a checkpoint that loads without PEFT."),
        "compose": ("compose", "Compose several versions of one base into one adapter."),
        "extract": ("compose", "Make an adapter of a fully fine-tuned checkpoint."),
    },
    "Jobs": {
        "jobs": ("jobs", "Look at jobs, and cancel or repeat them."),
        "worker": ("worker", "Do submitted jobs, one at a time, on this machine."),
    },
    "Names": {
        "use": ("names", "Choose the adapter that a bare v3 belongs to."),
        "tag": ("names", "Point a tag at a version, or remove one."),
        "label": ("names", "Set or remove labels of a version."),
        "rm": ("names", "Remove one exact version."),
        "prune": ("prune", "Remove old versions that nothing needs."),
        "revoke": ("access", "Withdraw one exact version for good."),
    },
    "Set up": {
        "base": ("base", "Register base checkpoints."),
        "stage": ("stage", "Declare the stages there are, and their order."),
        "policy": ("policy", "Show or set the policy a stage judges by."),
        "group": ("standstill", "Groups of accounts that policies name."),
        "freeze": ("standstill", "Times in which stages stand still."),
        "hold": ("standstill", "Show or lift the hold that a rollback set."),
        "audit": ("audit", "Export and verify the log of every attempt."),
        "convert": ("push", "Convert a pickled adapter to safetensors."),
        "serve": ("serve", "Serve the registry over HTTP, to adapters and Hugging Face clients."),
        "account": ("access", "Make, list and grant accounts."),
        "login": ("login", "Sign in to a server and remember it."),
        "logout": ("login", "Sign out, and forget the server."),
        "token": ("access", "Make, list, revoke and exchange tokens."),
        "key": ("key", "Make keys to sign with, and say whose signatures count."),
        "trust": ("trust", "Let pipelines in by their provider's tokens."),
        "whoami": ("access", "Say whom the registry takes you for."),
        "can-i": ("access", "Say whether you may do something."),
        "namespace": ("access", "Settings of a namespace."),
        "webhook": ("webhook", "Tell other programs what happened."),
        "admin": ("admin", "Check, collect, migrate and back up the store."),
    },
}
ALIASES = {"eval": "score"}
"""Other names of commands, which the lists leave out."""
_MODULES = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}


class Commands(click.Group):
    """Finds a command's module by its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the help text."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`."""
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"adapter_cli.{_MODULES[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest command when there is none of that name."""
        if args and args[0] not in (*_MODULES, *ALIASES) and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415  needed only here

            near = get_close_matches(args[0], _MODULES, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else " `adapters --help` lists them."
            raise click.UsageError(f"there is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by purpose, from COMMANDS alone: nothing is imported."""
        for title, group in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in group.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="adapter-registry", prog_name="adapters")
def adapters() -> None:
    """The registry of fine-tuned adapters: immutable, locked to their exact base, promoted through gates.

    \b
    A session:
      adapters base add mistral-7b ./mistral-7b          register the exact base checkpoint
      adapters push ./lora-adapter --base mistral-7b     store a version, locked to it
      adapters score import v1 results.json              attach evidence
      adapters promote v1 prod                           through the gates of prod
      adapters pull lora-adapter@prod -o ./out           what prod is now, verified

    References: name@v3, name@1.2.0, name@^1.2, name@sha256:..., name@prod; a bare v3 is of the adapter in use.
    Exit codes: 0 ok, 2 usage, 3 refused by a gate, 4 waiting, 5 undecided, 6 incompatible base, 7 bad bytes, 8 bad
    serving document, 1 other.
    """


def main() -> None:
    """Run the command line; every error the registry raises on purpose becomes text and an exit code."""
    from adapter_registry.domain.errors import RegistryError  # noqa: PLC0415  not needed by --help

    try:
        code = adapters.main(prog_name="adapters", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except RegistryError as error:
        from adapter_cli.output import print_error  # noqa: PLC0415  rich is not needed by --help

        print_error(error)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("stopped; nothing half done counts.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away, e.g. `adapters ls | head`.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  the edge of the process: a defect of ours must not look like the user's
        from adapter_cli.defect import report  # noqa: PLC0415  almost never needed

        report(error)
        sys.exit(1)
