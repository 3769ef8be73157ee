"""What the services cost: ``python benchmarks/serving.py`` beside a running ``miclip serve``.

Prints, for every kind of call, the median and the 99th percentile of its duration with one client, the calls a second
with sixteen clients, and the median as a multiple of a floor measured in the same run. The floor of ``Predict`` and
``CaptureActivations`` is the same work in this process without a service: decode one image, preprocess it, one forward
pass. That of a search is the library's own, with a known text already embedded.

The kinds of calls take turns in short rounds, so that a busy machine disturbs all of them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from random import Random

import numpy as np

from miclip.atlas import find_atlas
from miclip.catalogue import load_clip, load_target
from miclip.client import AsyncMiclipClient, make_policy
from miclip.demo.assets import ASSETS
from miclip.images import decode_image
from miclip.retrieval.search import AtlasSearcher
from miclip.steering.edits import Edit, Op

MODEL, LAYER, UNITS = "emoji-resnet", "layer4", 256
CLIENTS = 16
Ask = Callable[[int], Awaitable[object]]


def calls(client: AsyncMiclipClient, images: list[bytes], policy: str) -> dict[str, Ask]:
    """Return the kinds of calls by name; each is given a number, to differ from call to call."""
    generator = Random(0)
    own = [[Edit(LAYER, unit, Op.SCALE, 2.0) for unit in generator.sample(range(UNITS), 5)] for _ in images]
    units = [f"models/{MODEL}/layers/{LAYER}/units/{unit}" for unit in range(UNITS)]
    run = uuid.uuid4().hex[:6]  # no text is one that an earlier run left in the cache

    def predict(turn: int, **how: object) -> Awaitable[object]:
        return client.predict([images[turn % len(images)]], model=MODEL, **how)  # type: ignore[arg-type]

    return {
        "Predict": predict,
        "Predict by a policy": lambda turn: predict(turn, policy=policy),
        "Predict, own edits": lambda turn: predict(turn, edits=own[turn % len(own)]),
        "Predict, own edits and unsteered": lambda turn: predict(
            turn, edits=own[turn % len(own)], include_baseline=True
        ),
        "CaptureActivations": lambda turn: client.capture([images[turn % len(images)]], model=MODEL, layers=[LAYER]),
        "DescribeUnits, 1 unit": lambda turn: client.describe([units[turn % UNITS]]),
        "DescribeUnits, 256 units": lambda _: client.describe(units),
        "LocalizeConcepts, known text": lambda _: client.localize("dog", model=MODEL),
        "LocalizeConcepts, new text": lambda turn: client.localize(f"dog {run} {turn}", model=MODEL),
    }


def floors(images: list[bytes]) -> dict[str, Callable[[int], object]]:
    """Return the same work without a service, by the name of the calls that it is the floor of."""
    model, clip, searcher = load_target(MODEL), load_clip(), AtlasSearcher(find_atlas(MODEL))
    searcher.warm()
    dog = clip.embed_texts(["dog"])

    def forward(turn: int) -> object:
        image = decode_image(images[turn % len(images)], field="image")
        return model.forward(model.preprocess(image)[None])

    return {
        "Predict": forward,
        "DescribeUnits, 1 unit": lambda turn: searcher.describe(LAYER, [turn % UNITS], searcher.labels),
        "DescribeUnits, 256 units": lambda _: searcher.describe(LAYER, range(UNITS), searcher.labels),
        "LocalizeConcepts, known text": lambda _: searcher.localize(dog, [LAYER]),
        "LocalizeConcepts, new text": lambda turn: searcher.localize(clip.embed_texts([f"dog {turn}"]), [LAYER]),
    }


async def alone(ask: Ask, turns: range) -> list[float]:
    """Return the seconds of calls made one after another."""
    found = []
    for turn in turns:
        started = time.perf_counter()
        await ask(turn)
        found.append(time.perf_counter() - started)
    return found


async def together(ask: Ask, turns: range) -> float:
    """Return the calls a second of many clients at once."""
    waiting = iter(turns)

    async def client() -> None:
        for turn in waiting:
            await ask(turn)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return len(turns) / (time.perf_counter() - started)


async def measure(client: AsyncMiclipClient, rounds: int, each: int) -> None:
    """Measure and print."""
    images = [path.read_bytes() for path in sorted((ASSETS / "images" / "twemoji").glob("*.webp"))]
    steering = make_policy(model=MODEL, concept="dog", scale=2.0)
    policy = await client.create_policy(f"benchmark-{uuid.uuid4().hex[:6]}", steering)
    seconds, rates = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    try:
        asks, bare = calls(client, images, policy.name), floors(images)
        for turn in range(rounds + 1):
            for name, run in bare.items():
                seconds[f"floor of {name}"] += [timed(run, at) for at in range(each)]
            for name, ask in asks.items():
                first = 5 * each * turn
                seconds[name] += await alone(ask, range(first, first + each))
                rates[name].append(await together(ask, range(first + each, first + 5 * each)))
            if turn == 0:  # warms up
                seconds.clear()
                rates.clear()
    finally:
        await client.delete_policy(policy.name, etag=policy.etag)
    print(f"{'call':34} {'median ms':>9} {'p99 ms':>7} {'× floor':>8} {'calls/s':>8}")
    for name in asks:
        median, worst = statistics.median(seconds[name]), float(np.percentile(seconds[name], 99))
        floor = statistics.median(seconds[floor_of(name, list(bare))])
        rate = statistics.median(rates[name])
        print(f"{name:34} {1e3 * median:>9.1f} {1e3 * worst:>7.1f} {median / floor:>8.1f} {rate:>8.0f}")


def timed(run: Callable[[int], object], turn: int) -> float:
    """Return the seconds of a call without a service."""
    started = time.perf_counter()
    run(turn)
    return time.perf_counter() - started


def floor_of(name: str, bare: list[str]) -> str:
    """Return the key of a call's floor."""
    asked = "Predict" if name == "CaptureActivations" else name
    return next(f"floor of {one}" for one in bare if asked.startswith(one))


def main() -> None:
    """Measure the local server, or the one that MICLIP_ENDPOINT names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each kind of call")
    parser.add_argument("--calls", type=int, default=16, help="calls of a round by one client; four times by sixteen")
    chosen = parser.parse_args()

    async def run() -> None:
        async with AsyncMiclipClient() as client:
            await measure(client, chosen.rounds, chosen.calls)

    asyncio.run(run())


if __name__ == "__main__":
    main()
