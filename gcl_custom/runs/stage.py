"""A stage: one step of a run, its folder, and its fingerprint.

Each stage has a folder for its output. The folder holds ``working.json`` until the stage is done, and ``stage.json``
afterwards. Both contain the fingerprint of the settings and inputs that the output was made from.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gcl_custom import threads
from gcl_custom.console import say
from gcl_custom.errors import DoneMeanwhile, StaleStage, UserError
from gcl_custom.files import bytes_digest, damaged, discard, read_json, write_json
from gcl_custom.weights.digests import require
from gcl_custom.weights.needed import Needed

FORMAT = 4
"""Number that goes up when files or settings change their meaning, so that older output is not mistaken for new."""
KEEP = "add --redo to replace it, or name a recipe and --run NEW_NAME to keep both."
"""What a user can do about output that does not fit."""

Record = dict[str, Any] | None
"""What stage.json or working.json holds; None where a stage was never begun."""


@dataclass(frozen=True)
class Pool:
    """The stages that several runs share. A hash of its settings and its inputs' folders names the folder of each."""

    path: Path
    lender: Path | None = None
    """A run whose finished stages are used if their fingerprint fits."""

    def folder(self, name: str, settings: Mapping[str, Any], inputs: Sequence["Stage"]) -> Path:
        text = json.dumps([settings, [str(stage.path.relative_to(self.path)) for stage in inputs]], sort_keys=True)
        return self.path / f"{name}-{hashlib.blake2b(text.encode(), digest_size=5).hexdigest()}"

    def claim(self, stage: "Stage") -> FileLock:
        """Wait until no other process works on the stage, and lock it. The caller releases the lock at the end.

        If a finished stage is begun again, the lender's copy stays as it is.

        Raises:
            DoneMeanwhile: another process has finished the stage, or the lender had it.
        """
        before = stage.done
        place = self.path / ".locks" / f"{stage.path.relative_to(self.path)}.lock"
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place, is_singleton=True)  # so that this process never waits for itself
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{stage.name}: waiting for another process that works on it, in {stage.path}")
            lock.acquire()
        if stage.path.is_symlink() and (before or not stage.done):  # the lender is gone, or works on it again
            stage.path.unlink()
        if before:  # it is begun again, such as tiles whose files have changed
            return lock
        if not stage.path.exists() and self._lends(stage):
            stage.path.parent.mkdir(parents=True, exist_ok=True)
            stage.path.symlink_to((self.lender / stage.name).absolute())  # type: ignore[operator]  # there is one
        if stage.done:
            lock.release(force=True)
            raise DoneMeanwhile(f"{stage.name}: taken from {stage.path.resolve()}")
        return lock

    def _lends(self, stage: "Stage") -> bool:
        record = self.lender / stage.name / "stage.json" if self.lender else None
        return record is not None and record.is_file() and stage.fits(_record_in(record))


@dataclass
class Stage:
    """One step of a run: its settings, and the stages whose output it reads."""

    name: str
    path: Path
    settings: Mapping[str, Any]
    inputs: Sequence["Stage"] = ()
    redo: bool = False
    remedy: str = ""
    """The command that makes this stage, for messages."""
    pool: Pool | None = None
    weights: Sequence[Needed] = ()
    """All weights that the recipe names. The stage reads those whose keys are in its settings."""
    _lock: FileLock | None = field(default=None, repr=False)
    _threads: int = field(default=0, repr=False)
    """Threads that it computes with, from its beginning to its end, whatever the machine does meanwhile."""
    _since: float = field(default=0.0, repr=False)
    """Time of the system's clock, in seconds, up to which the stage's time has been counted."""
    _output: str | None = field(default=None, repr=False)

    def require_inputs(self) -> None:
        """Raise a UserError if an input is not finished."""
        for stage in self.inputs:
            if stage.output is None and stage.stale:
                raise UserError(
                    f"{self.name} needs {stage.name}, which was made from other settings or inputs in {stage.path}. "
                    f"Run: {stage.remedy} --redo"
                )
            if stage.output is None:
                raise UserError(
                    f"{self.name} needs {stage.name}, which is not finished in {stage.path}. Run: {stage.remedy}"
                )

    @property
    def fingerprint(self) -> str:
        """A hash of the settings and of the inputs' output.

        Raises:
            UserError: an input is not finished.
        """
        self.require_inputs()
        text = json.dumps([FORMAT, self.settings, [stage.output for stage in self.inputs]], sort_keys=True)
        return bytes_digest(text.encode())

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Whether the output that a record describes was made from these settings and inputs."""
        return bool(record["fingerprint"] == self.fingerprint)

    @property
    def output(self) -> str | None:
        """An identifier of the complete output: its fingerprint, and the digest of its content if the stage states one.

        None if the output is missing, unfinished, or made from other settings or inputs.
        """
        # Kept once it is known, because a comparison asks for the same few stages dozens of times.
        if self._output is None and (self.path / "stage.json").is_file() and all(stage.done for stage in self.inputs):
            record = _record_in(self.path / "stage.json")
            if self.fits(record):
                self._output = f"{record['fingerprint']}:{record['facts'].get('content', '')}"
        return self._output

    @property
    def done(self) -> bool:
        """Whether the output is complete and was made from these settings and inputs."""
        return self.output is not None

    @property
    def stale(self) -> bool:
        """Whether the folder, or that of an input, holds output of other settings or inputs: only redo replaces it."""
        if any(stage.stale for stage in self.inputs):
            return True
        record = self.record
        return record is not None and all(stage.done for stage in self.inputs) and not self.fits(record)

    @property
    def facts(self) -> dict[str, Any]:
        """What the finished stage recorded about its output."""
        facts: dict[str, Any] = _record_in(self.path / "stage.json")["facts"]
        return facts

    @property
    def seconds(self) -> float:
        """Time spent on the stage over all sessions, each up to its last checkpoint."""
        return float((self.record or {}).get("seconds", 0.0))

    @property
    def record(self) -> Record:
        """The stage's record as it is now, finished or not, whatever it was made from."""
        for name in ("stage.json", "working.json"):
            if (self.path / name).is_file():
                return _record_in(self.path / name)
        return None

    def begin(self) -> None:
        """Make the folder, or continue in it with as many threads as before, and start the stage's clock.

        Raises:
            StaleStage: the folder holds output of other settings or inputs, and ``redo`` is false.
            DoneMeanwhile: another process has finished this stage of a pool.
            UserError: an input is missing, or weights that the settings name.
        """
        if self.pool is not None:
            self._lock = self.pool.claim(self)
        named = _flat(self.settings)
        for need in self.weights:
            if not named.keys().isdisjoint(need.keys):
                require(need)
        record = self.record
        if record is not None and not self.fits(record):
            if not self.redo:
                raise StaleStage(self._difference(record))
            discard(self.path)
            record = None
        self._threads = threads.compute(self.name, record.get("threads") if record else None)
        self.path.mkdir(parents=True, exist_ok=True)
        if record is None:
            write_json(self.path / "working.json", self._as_record(0.0))
        self._since = time.time()

    def tick(self) -> None:
        """Add the time since begin or the last tick to the stage's clock."""
        write_json(self.path / "working.json", self._counted())

    def reopen(self) -> None:
        """Count a finished stage as unfinished. Otherwise a kill while its output is replaced leaves the old record."""
        self.tick()
        (self.path / "stage.json").unlink(missing_ok=True)

    def finish(self, **facts: Any) -> None:
        """Record that the output is complete, with facts about it."""
        write_json(self.path / "stage.json", {**self._counted(), "facts": facts})
        (self.path / "working.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release(force=True)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, which belongs to the process that holds it."""
        return {**self.__dict__, "_lock": None}

    def _counted(self) -> dict[str, Any]:
        """The record with the time up to now. Another process of the stage may have counted part of it already."""
        record = self.record or {}
        now, since = time.time(), max(self._since, float(record.get("counted_to", 0.0)))
        self._since = now
        return self._as_record(self.seconds + max(0.0, now - since))

    def _as_record(self, seconds: float) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "settings": dict(self.settings),
            "threads": self._threads,
            "seconds": seconds,
            "counted_to": time.time(),
        }

    def _difference(self, before: Mapping[str, Any]) -> str:
        """How the recorded settings differ from these, and what to do about it."""
        # The settings go through JSON, as the recorded ones did.
        old, new = _flat(before["settings"]), _flat(json.loads(json.dumps(self.settings)))
        if before.get("format") != FORMAT:
            return f"{self.path} was made by another version: {KEEP}"
        changes = [
            f"{key}: {old.get(key)} -> {new.get(key)}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
        ]
        what = (
            "; ".join(changes)
            or f"the output of {' or '.join(stage.name for stage in self.inputs) or 'its input'} has changed"
        )
        if old.items() < new.items():  # a key that was not given may stand in no record, as one that was not known
            return f"{self.path} was made with other settings, or by another version ({what}): {KEEP}"
        return f"{self.path} was made from something else ({what}), and is not mixed with it: {KEEP}"


def _record_in(path: Path) -> dict[str, Any]:
    """The content of stage.json or working.json.

    Raises:
        UserError: it is damaged.
    """
    record = read_json(path)
    wanted = {"fingerprint": str, "settings": dict, **({"facts": dict} if path.name == "stage.json" else {})}
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kind) for key, kind in wanted.items()):
        raise damaged(path, ValueError("it is no record of a stage"))
    found: dict[str, Any] = record
    return found


def of_another_version(folder: Path) -> bool:
    """Whether a folder has a stage, finished or not, that a version with another format made."""
    records = [*folder.glob("*/stage.json"), *folder.glob("*/working.json")]
    return any(read_json(record).get("format") != FORMAT for record in records)


def _flat(value: object, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}
