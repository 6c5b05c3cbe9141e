"""Two real adapters through their whole life on a real language model, by the public command line and Python API.

`make demo`. Everything it makes lies in `.demo/` and is kept: the second run takes seconds, an interrupted one resumes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from demo import evaluate, material, train
from demo.console import command, heading, say, wants_colour
from demo.places import DemoError, base_folder, root
from demo.spoiled import corrupted, other_shape, other_weights

NAME = "demo/scribe"


def main() -> int:
    """The story; 0 when every step ended as it should."""
    started = time.monotonic()
    try:
        _story()
    except DemoError as error:
        say(f"the demo stopped: {error}", "red")
        return 1
    except KeyboardInterrupt:
        say("\nstopped; `make demo` goes on from here.", "yellow")
        return 130
    say()
    say(f"done in {time.monotonic() - started:.0f} s", "green")
    return 0


def _story() -> None:
    heading("A real base and two texts")
    material.prepare()
    os.environ.update(_settings())
    shutil.rmtree(_home(), ignore_errors=True)
    run("base", "add", "smollm2", base_folder())
    run("base", "ls")

    heading("Two adapters are trained, one of them saved twice")
    train.train()
    folders = train.trained()

    heading("Push: each version is locked to that exact base")
    messages = {"v1": "prose, stopped early", "v2": "prose", "v3": "source code, pushed to the wrong line"}
    for version, message in messages.items():
        label = ("--label", "license=apache-2.0", "--label", f"description={message}")
        run("push", folders[version], "--base", "smollm2", "--name", NAME, "-m", message, *label)
    say("The same bytes again are the same version:", "dim")
    run("push", folders["v2"], "--base", "smollm2", "--name", NAME, "-q")

    heading("Push: what does not fit is refused, with every reason at once")
    run("base", "add", "tiny-llama", other_shape(), "-q")
    run("push", folders["v2"], "--base", "tiny-llama", "--name", NAME, expect=7)
    run("push", corrupted(folders["v2"]), "--base", "smollm2", "--name", NAME, expect=7)

    heading("Scores: held-out loss of the base and of each version, bound to digests")
    evaluate.evaluate()
    run("score", "import", "--base", "smollm2", evaluate.results_file("base"))
    for version in folders:
        run("score", "import", f"{NAME}@{version}", evaluate.results_file(version), "-q")

    heading("Promote: the policy of prod decides")
    run("policy", "set", "prod", Path(__file__).with_name("policy.yaml"))
    run("promote", f"{NAME}@v1", "prod")
    run("promote", f"{NAME}@v2", "prod", "--reason", "trained to the end")
    run("promote", f"{NAME}@v3", "prod", expect=3)
    run("ls", NAME)

    heading("Pull: by stage, every digest verified, onto the right base only")
    pulled = root() / "pulled"
    shutil.rmtree(pulled, ignore_errors=True)
    run("pull", f"{NAME}@prod", "-o", pulled, "--base", other_weights(), expect=6)
    run("pull", f"{NAME}@prod", "-o", pulled, "--base", base_folder())
    script("demo.load", pulled, train.probe_of(folders["v2"]))

    heading("Roll back: prod is v1 again, and the record says why")
    run("rollback", NAME, "prod", "--reason", "v2 talks too much")
    run("history", NAME, "prod")
    run("admin", "check", "--read-data")
    _next_steps()


def _home() -> Path:
    return root() / "registry"


def _settings() -> dict[str, str]:
    return {
        "ADAPTERS_HOME": str(_home()),
        "ADAPTERS_CACHE": str(root() / "cache"),
        "ADAPTERS_ACTOR": "demo",
        "HF_HUB_OFFLINE": "1",
    }


def run(*words: object, expect: int = 0) -> None:
    """Run `adapters` with these words, show both, and require the exit code."""
    texts = [str(word) for word in words]
    command(["adapters", *(_short(text) for text in texts)])
    program = Path(sys.executable).with_name("adapters")
    environment = {**os.environ, **({"FORCE_COLOR": "1"} if wants_colour() else {})}
    done = subprocess.run([program, *texts], env=environment, check=False)
    _require(done.returncode, expect, f"adapters {' '.join(texts)}")
    if expect:
        say(f"exit code {expect}, as it should be", "dim")


def script(module: str, *words: object) -> None:
    """Run a Python module of the demo in a process of its own."""
    done = subprocess.run([sys.executable, "-m", module, *map(str, words)], check=False)
    _require(done.returncode, 0, f"python -m {module}")


def _require(code: int, expected: int, what: str) -> None:
    if code != expected:
        raise DemoError(f"`{what}` ended with exit code {code}, expected {expected}. Its output above says why.")


def _short(text: str) -> str:
    """Paths of the demo's folder as a person in the checkout would write them."""
    here = str(Path.cwd())
    return text.removeprefix(f"{here}/") if text.startswith(here) else text


def _next_steps() -> None:
    heading("What to try next")
    settings = " ".join(f"{key}={_short(value)}" for key, value in _settings().items() if key != "HF_HUB_OFFLINE")
    bin_folder = _short(str(Path(sys.executable).parent))
    say(f"export {settings}")
    for line in (
        f"{bin_folder}/adapters show {NAME}@v2",
        f"{bin_folder}/adapters promote {NAME}@v3 prod --explain",
        f"{bin_folder}/adapters history {NAME} --all",
        f"{bin_folder}/adapters policy show prod",
        f"{bin_folder}/adapters push ./your-adapter --base smollm2 --name yours",
        f"{bin_folder}/adapters --help",
    ):
        say(line)


if __name__ == "__main__":
    sys.exit(main())
