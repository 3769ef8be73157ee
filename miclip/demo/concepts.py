"""The demo's classes and drawing styles."""

from __future__ import annotations

import re
import unicodedata

TRAIN_STYLES = ("noto", "fluent-emoji-flat", "fluent-emoji", "emojione", "noto-v1")
VALIDATION_STYLE = "fxemoji"
HELD_OUT_STYLE = "twemoji"
STYLES = (*TRAIN_STYLES, VALIDATION_STYLE, HELD_OUT_STYLE)

# Single namable things drawn in all seven styles; near-duplicates ("dog face" beside "dog") are left out, so
# that a mistake of a target model is a mistake and not a matter of naming.
CLASSES = (
    "monkey", "dog", "wolf", "cat", "tiger", "horse", "cow", "pig", "goat", "camel", "elephant", "mouse",
    "bear", "koala", "panda", "rooster", "penguin", "frog", "crocodile", "turtle", "snake", "whale", "dolphin",
    "tropical fish", "octopus", "snail", "ant", "honeybee", "lady beetle", "spider",
    "rose", "sunflower", "tulip", "palm tree", "cactus", "maple leaf", "mushroom",
    "grapes", "watermelon", "lemon", "banana", "pineapple", "red apple", "pear", "peach", "cherries",
    "strawberry", "tomato", "bread", "hamburger", "french fries", "sushi", "ice cream", "doughnut", "cookie",
    "birthday cake", "chocolate bar", "lollipop", "baby bottle", "hot beverage", "wine glass", "cocktail glass",
    "beer mug",
    "volcano", "ferris wheel", "castle", "church", "fountain", "tent", "locomotive", "bus", "ambulance",
    "fire engine", "police car", "tractor", "motorcycle", "bicycle", "anchor", "sailboat", "airplane",
    "helicopter", "rocket",
    "watch", "alarm clock", "thermometer", "umbrella", "snowflake", "rainbow", "fire", "balloon",
    "jack-o-lantern", "Christmas tree", "trophy", "soccer ball", "baseball", "american football", "glasses",
    "sunglasses", "necktie", "jeans", "dress", "backpack", "crown", "top hat", "lipstick", "gem stone", "bell",
    "microphone", "headphone", "saxophone", "trumpet", "guitar", "violin", "television", "camera", "candle",
    "light bulb", "envelope", "pencil", "paperclip", "key", "hammer", "wrench", "microscope", "telescope",
    "syringe", "toilet", "moai",
)  # fmt: skip


def slugify(name: str) -> str:
    """Return ``name`` in lower-case ASCII with hyphens, as icon sets spell it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower().replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
