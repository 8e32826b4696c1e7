"""List what can be downloaded, from where, and the hash that tells that it is the right file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Attributes
    ----------
    name : its name in the set's folder, without separators.
    url : the https address it comes from.
    hash : "md5:..." or "sha256:...", in lower case; None if the source publishes none.
    num_bytes : the exact size; None if the source does not tell.
    """

    name: str
    url: str
    hash: str | None = None
    num_bytes: int | None = None


MEDMNIST_URL = "https://zenodo.org/records/10519652/files/{}?download=1"
MEDMNIST = {
    "pneumoniamnist": {
        28: "28209eda62fecd6e6a2d98b1501bb15f",
        64: "8f4eceb4ccffa70c672198ea285246c6",
        128: "05b46931834c231683c68f40c47b2971",
        224: "d6a3c71de1b945ea11211b03746c1fe1",
    },
    "octmnist": {
        28: "c68d92d5b585d8d81f7112f81e2d0842",
        64: "e229e9440236b774d9f0dfef9d07bdaf",
        128: "0a97e76651ace45c5d943ee3f65b63ae",
        224: "abc493b6d529d5de7569faaef2773ba3",
    },
    "chestmnist": {
        28: "02c8a6516a18b556561a56cbdd36c4a8",
        64: "9de6cd0b934ebb5b7426cfba5efbae16",
        128: "db107e5590b27930b62dbaf558aebee3",
        224: "45bd33e6f06c3e8cdb481c74a89152aa",
    },
}
"""MD5 of each size's file, as published with MedMNIST v2."""

NIH_URL = "https://nihcc.box.com/shared/static/{}.gz"
NIH_ARCHIVES = (
    ("vfk49d74nhbxq3nqjg0900w5nvkorp5c", 2008470987, "fe8ed0a6961412fddcbb3603c11b3698"),
    ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", 3952623504, "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
    ("f1t00wrtdk94satdfb9olcolqx20z2jp", 3929234850, "2301d03bde4c246388bad3876965d574"),
    ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg", 3838903983, "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
    ("v5e3goj22zr6h8tzualxfsqlqaygfbsn", 3935496531, "1861f3cd0ef7734df8104f2b0309023b"),
    ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l", 3986301172, "456b53a8b351afd92a35bc41444c58c8"),
    ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", 4016328426, "1075121ea20a137b87f290d6a4a5965e"),
    ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", 4018347353, "b61f34cec3aa69f295fbb593cbd9d443"),
    ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", 4111327929, "442a3caa61ae9b64e61c561294d1e183"),
    ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p", 4181556296, "09ec81c4c31e32858ad8cf965c494b74"),
    ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze", 4187084020, "499aefc67207a5a97692424cf5dbeed5"),
    ("ioqwiy20ihqwyr8pf4c24eazhh281pbu", 2914187733, "dc9fda1757c2de0032b63347a7d2895c"),
)
"""Box's name, bytes and MD5 of each archive, as in the FAQ of the NIH."""

OCT2017 = RemoteFile(
    "OCT2017.tar.gz",
    "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
    "5699a1d8-d1b6-45db-bb92-b61051445347/file_downloaded",
)
"""Version 2 of the set; no hash is published for it."""


def medmnist_file_name(name: str, size: int) -> str:
    """Return the name of MedMNIST's file with images of ``size`` pixels a side."""
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def medmnist_files(name: str) -> dict[str, RemoteFile]:
    """Return the files of a set by the side of their images, in pixels."""
    files = {}
    for size, md5 in MEDMNIST[name].items():
        file = medmnist_file_name(name, size)
        num_bytes = 4_170_669 if file == "pneumoniamnist.npz" else None
        files[str(size)] = RemoteFile(file, MEDMNIST_URL.format(file), f"md5:{md5}", num_bytes)
    return files


def nih_archives() -> dict[str, RemoteFile]:
    """Return the twelve archives of images by their number."""
    return {
        str(part): RemoteFile(
            f"images_{part:03d}.tar.gz", NIH_URL.format(box), f"md5:{md5}", num_bytes
        )
        for part, (box, num_bytes, md5) in enumerate(NIH_ARCHIVES, start=1)
    }
