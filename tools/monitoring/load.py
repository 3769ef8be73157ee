"""Traffic of every kind for a running demo: what users do, and what they do wrong."""

from __future__ import annotations

import contextlib
import random
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from miclip.client import MiclipClient, make_policy
from miclip.demo.assets import IMAGES
from miclip.errors import MiclipError
from miclip.steering.edits import Edit, Op

MODELS = {"emoji-resnet": "layer4", "emoji-vit": "norm"}
"""Models and the layer that is edited."""
_CONCEPTS = ("dog", "fire", "guitar", "rocket", "apple", "snow", "ball", "flower", "fish", "house")


class Load:
    """Calls a server as many users would; every call is of a kind chosen by weight.

    Args:
        client: Connected, with a key that has all scopes.
        seed: Of every choice.
        models: Which to ask.
    """

    def __init__(self, client: MiclipClient, seed: int = 0, models: tuple[str, ...] = tuple(MODELS)) -> None:
        self._client, self._random, self._models = client, random.Random(seed), models
        self._images = sorted(IMAGES.glob("*/*.webp"))
        self._policy = ""
        self._kinds: dict[Callable[[], object], float] = {
            self._predict: 30, self._steer_by_edits: 6, self._steer_by_policy: 10, self._compare: 3, self._capture: 3,
            self._embed_texts: 4, self._embed_images: 2, self._describe: 5, self._localize: 6, self._record: 3,
            self._trace: 1, self._misspell: 1, self._send_rubbish: 0.5, self._use_a_wrong_key: 0.3, self._preview: 0.4,
            self._change_policies: 1, self.stop_for_a_moment: 0.3, self._list: 2,
        }  # fmt: skip

    def tour(self) -> None:
        """One call of every kind."""
        for kind in self._kinds:
            kind()

    def run(self, stop: threading.Event, pause: Callable[[], float] = lambda: 0.0) -> None:
        """Call until told to stop.

        Args:
            stop: Ends it.
            pause: Gives the seconds to wait before each call.
        """
        kinds, weights = [*self._kinds], [*self._kinds.values()]
        self._change_policies()
        while not stop.wait(pause()):
            self._random.choices(kinds, weights)[0]()

    def predict_many(self, requests: int) -> None:
        """Predictions, one after the other."""
        for _ in range(requests):
            self._predict()

    def predict_one_image(self, requests: int, model: str) -> None:
        """The same image again and again: traffic that is not like the probe set."""
        for _ in range(requests):
            self._client.predict([self._images[0]] * 16, model=model)

    def stop_for_a_moment(self) -> None:
        """Throw the kill switch, ask for steering, and let it go again."""
        model = self._models[0]
        self._client.stop_steering("load", model=model)
        for _ in range(3):
            self._client.predict(self._some(4), model=model, edits=[self._edit(model)])
        self._client.resume_steering("load", model=model)

    def align(self, probe_set: str = "", steps: int = 20) -> None:
        """Align the logits of a model, and wait for the end."""
        job = self._client.create_alignment(self._models[0], probe_set=probe_set, layers=["logits"], steps=steps)
        for _ in self._client.watch_alignment(job.name, timeout_s=600):
            pass

    def _model(self) -> str:
        return self._random.choice(self._models)

    def _some(self, most: int) -> list[Path]:
        return self._random.sample(self._images, self._random.randint(1, most))

    def _edit(self, model: str) -> Edit:
        return Edit(MODELS[model], self._random.randrange(100), Op.SCALE, 0.0)

    def _predict(self) -> None:
        self._client.predict(self._some(16), model=self._model())

    def _steer_by_edits(self) -> None:
        model = self._model()
        self._client.predict(self._some(8), model=model, edits=[self._edit(model)])

    def _steer_by_policy(self) -> None:
        if not self._policy:
            self._change_policies()
        with contextlib.suppress(MiclipError):  # another user may have deleted it
            self._client.predict(self._some(8), model=self._models[0], policy=self._policy)

    def _compare(self) -> None:
        model = self._model()
        self._client.predict(self._some(8), model=model, edits=[self._edit(model)], include_baseline=True)

    def _capture(self) -> None:
        model = self._model()
        self._client.capture(self._some(4), model=model, layers=[MODELS[model]], top_k=5)

    def _embed_texts(self) -> None:
        self._client.embed_texts([*self._random.sample(_CONCEPTS, 3), f"number {self._random.randrange(10**6)}"])

    def _embed_images(self) -> None:
        self._client.embed_images(self._some(4))

    def _describe(self) -> None:
        model = self._model()
        units = [self._unit(model) for _ in range(5)]
        concepts = self._random.sample(_CONCEPTS, 5) if self._random.random() < 0.5 else ()
        self._client.describe(units, concepts=concepts)

    def _localize(self) -> None:
        self._client.localize([self._random.choice(_CONCEPTS)], model=self._model())

    def _record(self) -> None:
        self._client.get_unit(self._unit(self._model()))

    def _unit(self, model: str) -> str:
        return f"models/{model}/layers/{MODELS[model]}/units/{self._random.randrange(100)}"

    def _trace(self) -> None:
        self._client.trace(self._some(4), model=self._model(), concepts=list(_CONCEPTS[:2]))

    def _list(self) -> None:
        self._random.choice((self._client.list_policies, self._client.list_models, self._client.list_atlases))()

    def _misspell(self) -> None:
        with contextlib.suppress(MiclipError):
            self._client.predict(self._some(1), model="emoji-resnte")

    def _send_rubbish(self) -> None:
        with contextlib.suppress(MiclipError):
            self._client.predict([b"not an image"], model=self._model())

    def _use_a_wrong_key(self) -> None:
        with contextlib.suppress(MiclipError):
            self._client.with_options(api_key="no-such-key").list_models()

    def _preview(self) -> None:
        """A receipt on a few images, half of which show the concept; on the server's own it takes many passes."""
        dogs = [path for path in self._images if path.stem == "dog"]
        policy = make_policy(model=self._models[0], concept="dog", scale=0.0)
        self._client.preview_policy(policy, images=[*dogs, *self._some(8)], target_label="dog")

    def _change_policies(self) -> None:
        """Make a policy for half of the traffic, widen it, and delete the one before."""
        model = self._models[0]
        policy = make_policy(model=model, edits=[self._edit(model)], traffic_share=0.5)
        made = self._client.create_policy(f"load-{uuid.uuid4().hex[:8]}", policy)
        wider = made.replaced(traffic_share=self._random.choice((0.5, 0.7, 0.9)))
        before, self._policy = self._policy, self._client.update_policy(wider).name
        if before:
            self._client.delete_policy(before)
