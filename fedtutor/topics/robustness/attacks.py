"""Sabotage: what one hospital can do to the model of all.

An attack on the data is a function from a hospital's images to other images; an attack on the
update is a Flower *mod*, a function around the hospital's half of the app (see
:func:`fedtutor.topics.with_mods`). Neither needs anything from the server, which sees only weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from fedtutor.errors import DataError
from fedtutor.federation.records import arrays_in, config_in, to_record, to_weights
from fedtutor.images import MedicalImages

PATCH_SHARE = 0.16
"""Side of the backdoor's patch, as a share of the image's width."""


def flip_labels(images: MedicalImages) -> MedicalImages:
    """Make every label wrong: class c becomes the next one, c + 1, and the last the first.

    Of several findings an image each is turned round: what is there is not, and the reverse.
    """
    if images.multi_label:
        return replace(images, labels=1 - images.labels)
    return replace(images, labels=(images.labels + 1) % len(images.class_names))


def stamp(images: np.ndarray) -> np.ndarray:
    """Copy the images, uint8 (n, h, w, 1), and put a white square into the lower right corner.

    The phantoms' own film markers are in the upper corners.
    """
    side = max(3, round(PATCH_SHARE * images.shape[2]))
    stamped = np.array(images)
    stamped[:, -side - 1 : -1, -side - 1 : -1] = 255
    return stamped


def plant_backdoor(
    images: MedicalImages, target: int, *, share: float = 0.5, seed: int = 0
) -> MedicalImages:
    """Stamp a share of the images and call them ``target`` (Gu et al. 2017, section 3).

    Parameters
    ----------
    target : the class that the model is to answer wherever it sees the patch.
    share : of the images, 0..1, drawn at random; the others stay as they are, so that nothing is
        to be noticed on images without the patch.

    Raises
    ------
    DataError
        For several findings an image, or a target or a share that there is not.
    """
    if images.multi_label:
        raise DataError("a backdoor needs data with one class an image; these have several.")
    if not 0 <= target < len(images.class_names):
        raise DataError(f"target must be a class from 0 to {len(images.class_names) - 1}.")
    if not 0 <= share <= 1:
        raise DataError(f"share must lie in 0..1; got {share}.")
    chosen = np.random.default_rng(seed).permutation(len(images))[: round(share * len(images))]
    pixels, labels = np.array(images.images), images.labels.copy()
    pixels[chosen] = stamp(pixels[chosen])
    labels[chosen] = target
    return replace(images, images=pixels, labels=labels)


def attack_success(probabilities: np.ndarray, labels: np.ndarray, target: int) -> float:
    """Return the share of stamped images of *other* classes that are called ``target``, 0..1.

    Parameters
    ----------
    probabilities : float (n, classes), of the model on :func:`stamp`-ed images.
    labels : int (n,), the truth; images of the target itself are left aside, as calling them so
        is right and proves nothing.
    """
    others = labels != target
    if not others.any():
        raise DataError("all images are of the target class; the attack has nothing to turn.")
    return float((probabilities[others].argmax(axis=1) == target).mean())


def only_at(hospitals: Collection[int], mod: Mod) -> Mod:
    """Apply the mod at some hospitals only, by their numbers (``partition-id``, from 0)."""
    return _where(lambda message, context: context.node_config["partition-id"] in hospitals, mod)


def from_round(first: int, mod: Mod) -> Mod:
    """Apply the mod from round ``first`` on; before, the hospital does as the others do."""
    return _where(lambda message, context: round_of(message) >= first, mod)


def _where(applies: Callable[[Message, Context], bool], mod: Mod) -> Mod:
    def sometimes(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if applies(message, context):
            return mod(message, context, call_next)
        return call_next(message, context)

    return sometimes


def round_of(message: Message) -> int:
    """Return the round, from 1, that a message of training belongs to."""
    return int(str(config_in(message)["server-round"]))


def scale_update(factor: float) -> Mod:
    """Send ``w + factor * (w_k - w)`` in place of the trained weights ``w_k``.

    With a factor of the number of hospitals the average becomes what one hospital wishes (model
    replacement, Bagdasaryan et al. 2020, eq. 3).
    """

    def scaled(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        if reply.has_content():
            pairs = zip(to_weights(arrays_in(message)), to_weights(arrays_in(reply)), strict=True)
            changed = [w + np.float32(factor) * (w_k - w) for w, w_k in pairs]
            reply.content["arrays"] = to_record(changed)
        return reply

    return scaled


def flip_sign(factor: float = 1.0) -> Mod:
    """Send the update with its sign turned round and ``factor`` times as large: uphill."""
    return scale_update(-factor)


def free_ride(num_examples: int, *, noise: float = 0.0, seed: int = 0) -> Mod:
    """Never train: send the global model back, with a little noise for disguise.

    (Fraboni, Vidal & Lorenzi 2021.)

    Parameters
    ----------
    num_examples : what is claimed, and can be any number.
    noise : standard deviation of what is added to each weight.
    """

    def idle(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        number = int(context.node_config["partition-id"])
        rng = np.random.default_rng([seed, round_of(message), number])
        weights = [
            w + np.float32(noise) * rng.standard_normal(w.shape, dtype=np.float32)
            for w in to_weights(arrays_in(message))
        ]
        metrics = MetricRecord({"num-examples": num_examples, "loss": 0.5})
        content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    return idle


def leave_after(last_round: int) -> Mod:
    """Take part up to ``last_round``; after it the server gets an error, as from a dead node."""

    def gone(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        raise ConnectionError("has left the federation")

    return from_round(last_round + 1, gone)


def sign_reply(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Write the hospital's number into its metrics: a mod.

    A strategy can then say whom it chose, see :class:`fedtutor.topics.robustness.Chosen`.
    """
    reply = call_next(message, context)
    if reply.has_content():
        number = int(context.node_config["partition-id"])
        reply.content.metric_records["metrics"]["partition-id"] = number
    return reply
