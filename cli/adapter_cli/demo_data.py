"""What `adapters serve --demo` fills an empty store with: generated history, so that every screen shows something.

The weights are drawn at random and the scores are invented. All of it lies in the namespace `demo`, and says so.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapter_registry.client import Registry
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.deployment import Replica
from adapter_registry.domain.errors import Conflict
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.job import State, ended
from adapter_registry.domain.policies.process import Approvals
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.domain.webhooks.webhook import attempted
from adapter_registry.settings import Settings

BASE = "demo/tiny-llama"
MARK = {"demo": "generated", "description": "demo data: random weights, invented scores"}
CARD = "# {title}\n\n**Demo data.** The weights are random and the scores are invented; see `adapters serve --help`.\n"
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
PEOPLE = (("ann", "maintainer"), ("bea", "approver"), ("chen", "writer"), ("dora", "reader"))
RANK, ALPHA = 4, 8
STDERR, SAMPLES = 0.011, 1_034
DAYS = 60
RECEIVER = "https://receiver.invalid/adapters"


@dataclass(frozen=True, slots=True)
class Line:
    """One adapter of the demo: its metric and what each version scored; `promoted` of them were to go to prod."""

    name: str
    title: str
    metric: str
    values: tuple[float, ...]
    promoted: int


LINES = (
    Line("demo/sql-writer", "Text to SQL", "spider/exact_match", (0.58, 0.63, 0.67, 0.71, 0.68, 0.74), 4),
    Line("demo/summariser", "Summaries of tickets", "tickets/rouge_l", (0.31, 0.35, 0.36, 0.39), 3),
    Line("demo/classifier", "Topics of messages", "topics/f1", (0.81, 0.86), 1),
)


class Passing:
    """A clock that begins two months ago, moves by `step`, and ends at the time that it is."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC) - timedelta(days=DAYS)

    def __call__(self) -> str:
        """The time, a second after the one told before."""
        self.at += timedelta(seconds=1)
        return min(self.at, datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def step(self, hours: float) -> None:
        """Let hours pass."""
        self.at += timedelta(hours=hours)


def check_empty(registry: Registry) -> None:
    """Refuse a store with anything in it; raises Conflict."""
    if events := registry.events():
        raise Conflict(
            f"--demo fills an empty store, and {registry.settings.store} holds {len(events):,} events of an audit log. "
            "Nothing was added. Name another one: ADAPTERS_HOME=./demo-store adapters serve --demo."
        )


def fill(settings: Settings, backend: Backend) -> str:
    """Fill a store that `check_empty` found empty; what it holds then, for people."""
    clock = Passing()

    def as_(name: str) -> Registry:
        return Registry(settings, replace(backend, clock=clock, actor=name))

    with tempfile.TemporaryDirectory() as scratch:
        _people(as_("admin"))
        _base(as_("admin"), Path(scratch) / "base")
        for number, line in enumerate(LINES):
            for version, value in enumerate(line.values, 1):
                clock.step(DAYS * 24 / (2 + sum(len(each.values) for each in LINES)))
                folder = _adapter(Path(scratch) / f"{number}-{version}", line, seed=100 * number + version)
                _version(as_, clock, line, version, value, folder)
    hook = as_("admin").add_webhook(RECEIVER, scope="demo/*").webhook
    _deployed(as_("admin"))
    _open_request(as_, clock)
    _told(backend, clock, hook.id)
    as_("admin").change_webhook(hook.id, active=False)
    _jobs(as_("ann"))
    _failed(backend, clock, as_("ann"))
    as_("ann").save_view("adapters", "in prod", {"stage": "prod", "sort": "name"})
    versions = sum(len(line.values) for line in LINES)
    more = "an open request, a fleet, a webhook and jobs"
    return f"{len(LINES)} adapters with {versions} versions, {more}, all in the namespace demo"


def _people(registry: Registry) -> None:
    for name, role in PEOPLE:
        registry.create_account(name)
        registry.grant(name, "demo/*", (role,))


def _base(registry: Registry, folder: Path) -> None:
    """A Llama with random weights, stored, so that jobs can take it."""
    import numpy as np  # noqa: PLC0415  slow to import, and for the demo alone
    from safetensors.numpy import save_file  # noqa: PLC0415

    folder.mkdir()
    random = np.random.default_rng(0)
    hidden, inner, words = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, hidden),
        "lm_head.weight": (words, hidden),
    }
    shapes["model.norm.weight"] = (hidden,)
    for layer in range(SHAPE["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{name}_proj.weight": shape for name, shape in _attention().items()}
        shapes |= {f"{at}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (hidden, inner)
        shapes |= {f"{at}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    tensors = {name: random.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False, **SHAPE}
    (folder / "config.json").write_text(json.dumps(config))
    copy = registry.copy_of(folder, name=BASE)
    registry.store_base(registry.add_base(BASE, folder), copy)


def _attention() -> dict[str, tuple[int, int]]:
    hidden = SHAPE["hidden_size"]
    narrow = hidden // SHAPE["num_attention_heads"] * SHAPE["num_key_value_heads"]
    return {"q": (hidden, hidden), "k": (narrow, hidden), "v": (narrow, hidden), "o": (hidden, hidden)}


def _adapter(folder: Path, line: Line, *, seed: int) -> Path:
    """A LoRA on q_proj and v_proj with random weights, as PEFT saves one."""
    import numpy as np  # noqa: PLC0415
    from safetensors.numpy import save_file  # noqa: PLC0415

    folder.mkdir()
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(SHAPE["num_hidden_layers"]):
        for name in ("q", "v"):
            rows, columns = _attention()[name]
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}_proj"
            tensors[f"{at}.lora_A.weight"] = random.normal(0, 1 / math.sqrt(columns), (RANK, columns))
            tensors[f"{at}.lora_B.weight"] = random.normal(0, 0.02, (rows, RANK))
    single = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    save_file(single, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE,
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text(CARD.format(title=line.title))
    return folder


def _version(
    as_: Callable[[str], Registry], clock: Passing, line: Line, number: int, value: float, folder: Path
) -> None:
    """Push a version, score it, and take it as far as the line says."""
    reference = f"{line.name}@v{number}"
    as_("chen").push(folder, base=BASE, name=line.name, message=f"demo data: run {number}", labels=MARK)
    clock.step(2)
    score = Score(
        line.metric, value, Direction.HIGHER, stderr=STDERR, n=SAMPLES, setting={"data": "demo"}, producer="demo"
    )
    as_("chen").add_scores(reference, (score,))
    for stage in _way(line, number):
        clock.step(5)
        as_("ann").attempt(reference, stage, reason="demo data: better than the one before")


def _way(line: Line, number: int) -> Iterator[str]:
    """The stages that it is to enter; one that scored less than the one before is refused by the gates of the last."""
    worse = number > 1 and line.values[number - 1] < line.values[number - 2]
    yield "dev"
    if number <= line.promoted or worse or number == len(line.values):
        yield "staging"
    if number <= line.promoted or worse:
        yield "prod"


def _deployed(registry: Registry) -> None:
    """A fleet that is said to serve what prod was one version ago, of which one replica was restarted."""
    first = LINES[0]
    replicas = (
        Replica("http://replica-1.invalid:8000", "there", "/srv/adapters/demo"),
        Replica("http://replica-2.invalid:8000", "missing", "", "demo data: it was restarted and serves it no more"),
    )
    registry.report_deployment(
        f"{first.name}@v{first.promoted - 1}",
        fleet="demo",
        name=first.name.partition("/")[2],
        follows=f"{first.name}@prod",
        replicas=replicas,
    )


def _open_request(as_: Callable[[str], Registry], clock: Passing) -> None:
    """From now on prod asks for an approval, so that the newest version of the first line waits for one."""
    clock.step(3)
    admin = as_("admin")
    policy = admin.policy("prod").policy
    admin.set_policy("prod", replace(policy, process=replace(policy.process, approvals=Approvals(1))))
    first = LINES[0]
    as_("ann").attempt(f"{first.name}@v{len(first.values)}", "prod", reason="demo data: please look at it")


def _told(backend: Backend, clock: Passing, hook: str) -> None:
    """One message that arrived, one that its receiver refused for good, and one that is to be sent again."""
    answers = (
        (204, ""),
        (410, "demo data: the receiver is gone"),
        (503, "demo data: the receiver is busy"),
    )
    with backend.catalog.writing() as tx:
        deliveries = tx.webhooks.deliveries(hook)
        for place, delivery in enumerate(reversed(deliveries)):
            status, error = answers[min(place, len(answers) - 1)]
            tx.webhooks.record(attempted(delivery, status=status, error=error, at=clock(), jitter=0.0))


def _failed(backend: Backend, clock: Passing, registry: Registry) -> None:
    """A job that came to nothing, as a worker leaves one."""
    name = LINES[1].name
    pair = (Ingredient(f"{name}@v1"), Ingredient(f"{name}@v2"))
    job = registry.submit(Recipe("diff", pair, options={"intruders": True}, into=name))
    error = "demo data: the worker ran out of memory (invented)"
    with backend.catalog.writing() as tx:
        running = replace(job, state=State.RUNNING, attempts=1, worker="demo", started_at=clock())
        tx.jobs.say(job.id, ("demo data: reading two versions", f"failed: {error}"), at=clock())
        failed = ended(running, State.FAILED, at=clock(), error=error)
        tx.jobs.put(failed)
        told = {"job": job.id, "kind": job.recipe.kind, "recipe": job.recipe.digest, "into": name, "round": job.round}
        detail = {**told, "error": error}
        tx.events.append(Entry("job.fail", name, Outcome.DONE, job.submitted_by, clock(), detail))


def _jobs(registry: Registry) -> None:
    """Some that a worker does, one that waits for a GPU, one that was cancelled."""
    name = LINES[0].name
    pair = (Ingredient(f"{name}@v3"), Ingredient(f"{name}@v4"))
    registry.submit(Recipe("diff", pair, into=name))
    mixed = (Ingredient(f"{name}@v4", 0.7), Ingredient(f"{LINES[1].name}@v3", 0.3))
    registry.submit(Recipe("compose", mixed, options={"method": "linear"}, into="demo/composed"))
    registry.submit(Recipe("merge", (Ingredient(f"{name}@v4"),), into="demo/merged"))
    registry.submit(Recipe("diff", pair, into=name), queue="cuda")
    registry.cancel_job(registry.submit(Recipe("diff", pair, options={"exact": True}, into=name), queue="cuda").id)
