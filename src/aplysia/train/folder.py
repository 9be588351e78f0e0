"""A run folder that survives a crash at any instant: kill -9, a full disk, a lost machine.

Whole files are written under a hidden name, flushed to the disk and renamed, so that a name never stands for half a
file. Lines are appended whole or taken back. Two checkpoints are kept, and at every instant at least one is whole: the
new one is complete before the present one gives up its name and becomes `checkpoint-previous`. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from aplysia.errors import RunError

FORMAT = 1
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint-previous.safetensors"
MODEL, METRICS = "model.safetensors", "metrics.jsonl"
# Any of these makes a folder a run.
MARKS = ("recipe.json", "run.json", METRICS, "summary.json", CHECKPOINT, PREVIOUS)


def write_atomic(path: Path, data: bytes | str, *, keep: Path | None = None) -> None:
    """Write a whole file, or leave what was there untouched. `keep` is a name that the old file takes on then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the first failure is the one to tell
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refusal(path, error) from error
        raise


def append_whole(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Append all of `data` or nothing: after a failure the file has its old length again."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            length, rest = os.fstat(file).st_size, memoryview(data)
            try:
                while rest:
                    rest = rest[os.write(file, rest) :]
                if sync:
                    os.fsync(file)
            except BaseException:
                os.ftruncate(file, length)
                raise
        finally:
            os.close(file)
    except OSError as error:
        raise _refusal(path, error) from error


class RunFolder:
    """The files of one run. Making the object touches nothing; `create` begins or resumes a run in it.

    Args:
        path: of the folder.
        written: False reads only, and what is to be written is dropped (all processes of a distributed run but the first).
    """

    def __init__(self, path: Path, *, written: bool = True) -> None:
        self.path, self._written = Path(path), written

    @classmethod
    def create(cls, out: Path, resume: bool) -> RunFolder:
        """The folder, made and found writable. One that holds a run already is taken only to resume it."""
        folder = cls(Path(out).expanduser())
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refusal(folder.path, error) from error
        if folder.has_run and not resume:
            raise RunError(
                str(folder.path),
                expected="a folder without a run",
                got="one that holds a run",
                fix="go on with that run by --resume, or choose another folder by --out",
            )
        probe = folder.path / ".probe"
        write_atomic(probe, bytes(4096))
        probe.unlink()
        for left in folder.path.glob(".*.tmp"):  # of a process that was killed while it wrote
            left.unlink()
        return folder

    @property
    def has_run(self) -> bool:
        return any((self.path / name).exists() for name in MARKS)

    @property
    def finished(self) -> bool:
        return (self.path / "summary.json").exists()

    @property
    def has_checkpoint(self) -> bool:
        return any((self.path / name).exists() for name in (CHECKPOINT, PREVIOUS))

    def read_json(self, name: str) -> Any:
        path = self.path / name
        try:
            return json.loads(_read(path))
        except ValueError as error:
            raise RunError(str(path), expected="JSON", got=f"damage ({error})", fix="restore the file") from error

    def write_json(self, name: str, obj: Any) -> None:
        if not self._written:
            return
        path = self.path / name
        write_atomic(path, _json(path, obj, indent=1) + "\n")

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add the record of an epoch."""
        self.append(METRICS, record)

    def metrics(self, upto_epoch: int | None = None) -> list[dict[str, Any]]:
        """The records of the epochs so far; up to and with `upto_epoch` where that is given."""
        return [r for r in self.records(METRICS) if upto_epoch is None or r["epoch"] <= upto_epoch]

    def trim_metrics(self, epoch: int) -> None:
        """Forget the records after `epoch`: a resumed run writes them again."""
        self.trim(METRICS, "epoch", epoch)

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Add one line to a file of records; half a line that a killed process left is taken away first."""
        if not self._written:
            return
        path = self.path / name
        line = _json(path, dict(record)) + "\n"
        old = _read(path) if path.exists() else b""
        whole = old.rfind(b"\n") + 1
        if whole != len(old):
            os.truncate(path, whole)
        append_whole(path, line.encode())

    def records(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file of records, less a half last one."""
        path = self.path / name
        lines = _read(path).split(b"\n")[:-1] if path.exists() else []
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise RunError(
                    f"{path}, line {number}", expected="one JSON object", got="damage", fix="delete that line"
                ) from error
        return records

    def trim(self, name: str, key: str, last: int) -> None:
        """Forget the records whose `key` is beyond `last`."""
        if self._written and (self.path / name).exists():
            kept = [record for record in self.records(name) if record[key] <= last]
            write_atomic(self.path / name, "".join(json.dumps(record) + "\n" for record in kept))

    def save_model(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any] | None = None) -> None:
        """Write the forward weights, with notes in the file's header: what a reader needs to make a net of them."""
        path = self.path / MODEL
        write_atomic(path, _packed(path, "model", tensors, notes))

    def save_checkpoint(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Write a checkpoint; the one before it stays as `checkpoint-previous`."""
        path = self.path / CHECKPOINT
        write_atomic(path, _packed(path, "checkpoint", tensors, meta), keep=self.path / PREVIOUS)

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, on the CPU, and the meta data of the last checkpoint.

        The previous one is used by itself only if the last one is missing (a crash between two renames). A damaged one
        is never passed over in silence, for that would repeat epochs unasked.
        """
        name = CHECKPOINT if (self.path / CHECKPOINT).exists() else PREVIOUS
        path = self.path / name
        if not path.exists():
            raise RunError(
                str(self.path), expected="a checkpoint", got="none in this folder", fix="check the path, or start anew"
            )
        try:
            return _load(path)
        except _Unusable as error:
            raise RunError(str(path), expected=error.expected, got=error.got, fix=self._way_on(name)) from error

    def _way_on(self, damaged: str) -> str:
        if damaged == PREVIOUS or not (self.path / PREVIOUS).exists():
            return "delete it and resume to start from the beginning"
        try:
            _, meta = _load(self.path / PREVIOUS)
        except _Unusable:
            return f"{PREVIOUS} cannot be used either; delete both and resume to start from the beginning"
        epoch = f" of epoch {meta['epoch']}" if "epoch" in meta else ""
        return f"delete it and resume to go on from {PREVIOUS}{epoch}"


def load_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of a `model.safetensors`, on the CPU, and its notes; None where an older version wrote none.

    Raises:
        RunError: no such file, damage, or a newer format.
    """
    try:
        return _unpacked(_read(path), "model")
    except _Unusable as error:
        fix = "update Aplysia" if "newer" in error.got else "restore the file, or train the run again"
        raise RunError(str(path), expected=error.expected, got=error.got, fix=fix) from error


class _Unusable(Exception):
    """A file of tensors that cannot be read, and why."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected, self.got = expected, got
        super().__init__(got)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, meta = _unpacked(_read(path), "checkpoint")
    if meta is None:
        raise _Unusable("a checkpoint of Aplysia", "tensors without its notes")
    return tensors, meta


def _packed(path: Path, kind: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any] | None) -> bytes:
    plain = _plain(tensors)
    if meta is None:
        return tensors_to_bytes(plain, {"format": "pt"})
    text = _json(path, dict(meta))
    head = json.dumps({"format": FORMAT, "kind": kind, "digest": _digest(plain, text), "meta": text})
    return tensors_to_bytes(plain, {"format": "pt", "aplysia": head})


def _unpacked(data: bytes, kind: str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        notes = json.loads(head.get("__metadata__", {}).get("aplysia", "null"))
        if notes is None:
            return tensors_from_bytes(data), None
        if notes["format"] > FORMAT:
            raise _Unusable(f"format {FORMAT} or older", f"format {notes['format']} of a newer Aplysia")
        if (found := notes.get("kind", "checkpoint")) != kind:
            raise _Unusable(f"a {kind} of Aplysia", f"a {found}")
        tensors = tensors_from_bytes(data)
        if notes["digest"] != _digest(tensors, notes["meta"]):
            raise _Unusable(f"a whole {kind}", "one whose bytes have changed since they were written")
        return tensors, json.loads(notes["meta"])
    # Damage to the head comes up as any of these: one letter of a key is enough.
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise _Unusable(f"a whole {kind}", f"a damaged or truncated one of {len(data)} bytes") from error


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous on the CPU, no storage twice."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        copy = tensor.detach().cpu().contiguous()
        if copy.untyped_storage().data_ptr() in seen:
            copy = copy.clone()
        seen.add(copy.untyped_storage().data_ptr())
        plain[name] = copy
    return plain


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=32)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _json(path: Path, obj: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(obj, allow_nan=False, indent=indent)
    except ValueError as error:
        raise RunError(str(path), expected="finite numbers", got="nan or inf", fix="write none instead") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(
            str(path), expected="a file that can be read", got=os.strerror(error.errno or 0), fix="check the path"
        ) from error


def _sync_folder(path: Path) -> None:
    """Make a rename last (Windows has no such call)."""
    if os.name != "nt":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _refusal(path: Path, error: OSError) -> RunError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        expected, got, fix = "room for this file", "no space left on device", "free some, or choose another --out"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        expected, got = "a folder that can be written", "permission denied"
        got, fix = "a read-only file system" if error.errno == errno.EROFS else got, "choose another --out"
    else:
        expected, got, fix = "a place that can be written", error.strerror or str(error), "choose another --out"
    return RunError(str(path), expected=expected, got=got, fix=fix)


# ── trees of tensors and plain values ────────────────────────────────────────────────────────────────────────────────


def flatten(tree: Any, prefix: str) -> tuple[dict[str, Tensor], Any]:
    """Part a tree (the state of an optimiser) into named tensors and a JSON-able skeleton; `unflatten` joins them.

    Dicts with plain keys (whole numbers stay so), lists, tuples, text, numbers, bools and None come back exactly.
    """
    tensors: dict[str, Tensor] = {}

    def part(node: Any, name: str) -> Any:
        if isinstance(node, Tensor):
            while name in tensors:
                name += "'"
            tensors[name] = node
            return {"tensor": name}
        if type(node) is float and not math.isfinite(node):
            return {"float": repr(node)}
        if node is None or type(node) in (bool, int, float, str):
            return node
        if isinstance(node, dict) and all(key is None or type(key) in (bool, int, str) for key in node):
            return {"dict": [[key, part(value, f"{name}.{key}")] for key, value in node.items()]}
        if isinstance(node, list | tuple) and type(node) in (list, tuple):
            return {type(node).__name__: [part(item, f"{name}.{i}") for i, item in enumerate(node)]}
        raise RunError(
            f"state {name}",
            expected="tensors and plain values in dicts, lists and tuples",
            got=f"a {type(node).__name__}",
            fix="keep it as a tensor or a number",
        )

    skeleton = part(tree, prefix)
    return tensors, skeleton


def unflatten(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    """The tree that `flatten` parted."""
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, body),) = skeleton.items()
    if kind == "tensor":
        return tensors[body]
    if kind == "float":
        return float(body)
    if kind == "dict":
        return {key: unflatten(tensors, value) for key, value in body}
    items = [unflatten(tensors, item) for item in body]
    return tuple(items) if kind == "tuple" else items
