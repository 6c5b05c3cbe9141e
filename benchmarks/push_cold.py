"""A cold native push of an 80 MB adapter to a server on this machine, against copying plus hashing the same files.

Ours is all of `Registry.push`: the folder is examined and hashed, sent, hashed and fsynced by the server, examined
again from the stored bytes, and made a version. The peer copies the files to the same disk, fsyncs files and folder,
and hashes them with one thread of SHA-256. Both run in turn on fresh bytes that are in the page cache; the ratio of
each pair is printed with the median. With a bucket (SeaweedFS on this machine) one plain PUT of the weights is
measured beside it, which is what the bucket itself takes.

    python -m benchmarks.push_cold [--repeat 7] [--folder-only] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import os
import pstats
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from benchmarks.servers import adapters_serve, load
from benchmarks.shapes import all_linear_lora, llama_base

PROMISED = 1.5
LAYERS, HIDDEN, RANK = 16, 2048, 32
WEIGHTS = "adapter_model.safetensors"


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def refresh(folder: Path) -> None:
    """Other numbers in the same shapes, on disk and in the page cache."""
    tensors = load_file(folder / WEIGHTS)
    chance = np.random.default_rng()
    save_file(
        {name: chance.standard_normal(t.shape, dtype=np.float32) for name, t in tensors.items()}, folder / WEIGHTS
    )
    os.sync()


def copied_and_hashed(folder: Path, out: Path) -> None:
    """What the peer does: copy, fsync, hash."""
    target = out / "copy"
    target.mkdir()
    for path in sorted(folder.iterdir()):
        shutil.copyfile(path, target / path.name)
        with (target / path.name).open("rb") as stream:
            os.fsync(stream.fileno())
            hashlib.file_digest(stream, "sha256")
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def measure(work: Path, settings: dict[str, str], repeat: int, bucket: Callable[[bytes], object] | None) -> None:
    """Print the pairs and their median."""
    folder = all_linear_lora(work / "lora", layers=LAYERS, hidden=HIDDEN, rank=RANK)
    with adapters_serve(work, settings) as server:
        where = {
            "ADAPTERS_HOME": str(work / "client"),
            "ADAPTERS_URL": server.url,
            "ADAPTERS_TOKEN": server.token,
        }
        registry = Registry(read_settings({**where, "ADAPTERS_CACHE": str(work / "cache")}))
        registry.add_base("b", llama_base(work / "base", layers=LAYERS, hidden=HIDDEN))
        ratios, puts = [], []
        for i in range(repeat + 1):
            refresh(folder)
            # A cache of its own each time: nothing that was read before is known.
            cold = Registry(read_settings({**where, "ADAPTERS_CACHE": str(work / f"cache-{i}")}))
            peer = seconds(lambda: copied_and_hashed(folder, work))
            # Its memory is free again for ours: a virtual machine's first touch of a page costs ten times a write.
            shutil.rmtree(work / "copy")
            ours = seconds(lambda cold=cold: cold.push(folder, base="b", name="bench/x"))
            line = f"  copied and hashed {peer:.3f} s, pushed {ours:.3f} s, {ours / peer:.2f}x"
            if bucket is not None:
                data = (folder / WEIGHTS).read_bytes()
                puts.append(seconds(lambda data=data: bucket(data)))
                line += f"; one plain PUT {puts[-1]:.3f} s"
            # The first push pays for imports and first connections.
            if i:
                ratios.append(ours / peer)
                print(line)
    size = sum(path.stat().st_size for path in folder.iterdir())
    text = (
        f"{size / 1e6:.0f} MB: median {statistics.median(ratios):.2f}x of copying plus hashing (promised {PROMISED}x)"
    )
    if puts:
        text += f"; a plain PUT to the bucket alone takes {statistics.median(puts[1:]):.3f} s"
    print(text)


def with_bucket(stack: ExitStack) -> tuple[dict[str, str], Callable[[bytes], object]]:
    """Settings of a server on PostgreSQL and S3, and a plain PUT to that bucket."""
    from adapter_registry.storage.blobs_s3_client import s3_client
    from tests import servers

    database, s3 = stack.enter_context(servers.postgres()), stack.enter_context(servers.s3())
    name = s3.fresh_bucket()
    client = s3_client(**s3.options())
    settings = {
        "ADAPTERS_DATABASE_URL": database.fresh_database(),
        "ADAPTERS_BLOBS_URL": f"s3://{name}/blobs",
        "AWS_ENDPOINT_URL_S3": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }
    return settings, lambda data: client.put_object(Bucket=name, Key=secrets.token_hex(8), Body=data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder-only", action="store_true", help="leave PostgreSQL and S3 out")
    parser.add_argument("--profile", action="store_true", help="where the client's time goes, with a folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as work:
        print(f"to a server on SQLite and a folder, {load()}:")
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        (Path(work) / "folder").mkdir()
        measure(Path(work).resolve() / "folder", {}, options.repeat, None)
        profile.disable()
        if options.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
        if options.folder_only:
            return
        with ExitStack() as stack:
            settings, bucket = with_bucket(stack)
            print("to a server on PostgreSQL and S3, straight to the bucket:")
            (Path(work) / "bucket").mkdir()
            measure(Path(work).resolve() / "bucket", settings, options.repeat, bucket)


if __name__ == "__main__":
    main()
