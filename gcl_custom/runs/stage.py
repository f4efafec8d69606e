"""One step of a run and its fingerprint. No training.

A stage keeps its output in a folder of its own. ``stage.json`` stands there once the stage is done, ``working.json``
while it is not; both hold the fingerprint of the settings and inputs that the output belongs to.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gcl_custom.console import say
from gcl_custom.errors import DoneMeanwhile, StaleStage, UserError
from gcl_custom.files import discard, read_json, write_json
from gcl_custom.weights.digests import require
from gcl_custom.weights.needed import Needed

FORMAT = 2
"""Raised when a stage's files or settings change their meaning, so that older output is not mistaken for new."""


@dataclass(frozen=True)
class Pool:
    """Where runs keep the stages that they have in common, each in a folder named by its settings and its inputs'."""

    path: Path
    lender: Path | None = None
    """A run whose finished stages are taken where their fingerprint fits."""

    def folder(self, name: str, settings: Mapping[str, Any], inputs: Sequence["Stage"]) -> Path:
        text = json.dumps([settings, [str(stage.path.relative_to(self.path)) for stage in inputs]], sort_keys=True)
        return self.path / f"{name}-{hashlib.blake2b(text.encode(), digest_size=5).hexdigest()}"

    def claim(self, stage: "Stage") -> FileLock:
        """Wait until no other process works on the stage; the lock is to be released once it is finished.

        A stage that was there and is begun again all the same leaves its lender's copy as it is.

        Raises:
            DoneMeanwhile: the stage is there now: another process has finished it, or the lender had it.
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
        if before:  # and yet to be done again, such as tiles whose files have changed
            if stage.path.is_symlink():
                stage.path.unlink()
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
        return record is not None and record.is_file() and stage.fits(read_json(record))


@dataclass
class Stage:
    """One step of a run, its settings, and the stages whose output it reads."""

    name: str
    path: Path
    settings: Mapping[str, Any]
    inputs: Sequence["Stage"] = ()
    redo: bool = False
    remedy: str = ""
    """The command that makes this stage, for messages."""
    pool: Pool | None = None
    weights: Sequence[Needed] = ()
    """What the recipe takes from elsewhere; the stage reads those whose keys its settings have."""
    _lock: FileLock | None = field(default=None, repr=False)
    _since: float = field(default=0.0, repr=False)
    """Seconds on the system's clock up to which the time is counted already."""
    _output: str | None = field(default=None, repr=False)

    def require_inputs(self) -> None:
        """Raises UserError where an input is not there yet."""
        for stage in self.inputs:
            if stage.output is None:
                raise UserError(
                    f"{self.name} needs {stage.name}, which is not finished in {stage.path}. Run: {stage.remedy}"
                )

    @property
    def fingerprint(self) -> str:
        """Of the settings and of the output of the inputs.

        Raises:
            UserError: where an input is not there yet.
        """
        self.require_inputs()
        text = json.dumps([FORMAT, self.settings, [stage.output for stage in self.inputs]], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Whether what a record tells of was made from these settings and inputs."""
        return bool(record["fingerprint"] == self.fingerprint)

    @property
    def output(self) -> str | None:
        """What identifies the complete output: its fingerprint, and a digest of the content where the stage states one.

        None where the output is missing, unfinished, or made from other settings or inputs.
        """
        # Looked up once it is there: a comparison asks for the same few stages dozens of times.
        if self._output is None and (self.path / "stage.json").is_file() and all(stage.done for stage in self.inputs):
            record = read_json(self.path / "stage.json")
            if self.fits(record):
                self._output = f"{record['fingerprint']}:{record['facts'].get('content', '')}"
        return self._output

    @property
    def done(self) -> bool:
        """Whether the output is complete and belongs to these settings and inputs."""
        return self.output is not None

    @property
    def facts(self) -> dict[str, Any]:
        """What the finished stage stated about its output."""
        facts: dict[str, Any] = read_json(self.path / "stage.json")["facts"]
        return facts

    @property
    def seconds(self) -> float:
        """Time spent on the stage so far, over all its sessions up to their last checkpoint."""
        return float((self._record() or {}).get("seconds", 0.0))

    def _record(self) -> dict[str, Any] | None:
        for name in ("stage.json", "working.json"):
            if (self.path / name).is_file():
                record: dict[str, Any] = read_json(self.path / name)
                return record
        return None

    def begin(self) -> None:
        """Make the folder, or go on in it; starts the stage's clock.

        Raises:
            StaleStage: where the folder holds output of other settings or inputs, unless it is to be redone.
            DoneMeanwhile: a stage of a pool is there by now.
            UserError: where an input is missing, or weights that the settings name.
        """
        if self.pool is not None:
            self._lock = self.pool.claim(self)
        named = _flat(self.settings)
        for need in self.weights:
            if not named.keys().isdisjoint(need.keys):
                require(need)
        record = self._record()
        if record is not None and not self.fits(record):
            if not self.redo:
                raise StaleStage(self._difference(record))
            discard(self.path)
            record = None
        self.path.mkdir(parents=True, exist_ok=True)
        if record is None:
            write_json(self.path / "working.json", self._as_record(0.0))
        self._since = time.time()

    def tick(self) -> None:
        """Add the time since begin or the last tick to the stage's clock."""
        write_json(self.path / "working.json", self._counted())

    def finish(self, **facts: Any) -> None:
        """State that the output is complete, with what a reader should know of it."""
        write_json(self.path / "stage.json", {**self._counted(), "facts": facts})
        (self.path / "working.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release(force=True)

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which stays with the process that holds it."""
        return {**self.__dict__, "_lock": None}

    def _counted(self) -> dict[str, Any]:
        """The record of the stage with the time up to now; another process of the stage may have counted some of it."""
        record = self._record() or {}
        now, since = time.time(), max(self._since, float(record.get("counted_to", 0.0)))
        self._since = now
        return self._as_record(self.seconds + max(0.0, now - since))

    def _as_record(self, seconds: float) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "settings": dict(self.settings),
            "seconds": seconds,
            "counted_to": time.time(),
        }

    def _difference(self, before: Mapping[str, Any]) -> str:
        """How the record of what is there differs from what is asked for, and what to do."""
        # As JSON has it, since that is how the settings before were kept.
        old, new = _flat(before["settings"]), _flat(json.loads(json.dumps(self.settings)))
        lacks_keys_alone = old.items() < new.items()
        if before.get("format") != FORMAT or lacks_keys_alone:
            return f"{self.path} was made by another version: add --redo to replace it, or --run NEW_NAME to keep both."
        changes = [
            f"{key}: {old.get(key)} -> {new.get(key)}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
        ]
        what = (
            "; ".join(changes)
            or f"the output of {' or '.join(stage.name for stage in self.inputs) or 'its input'} has changed"
        )
        return (
            f"{self.path} was made from something else ({what}), and is not mixed with it. "
            f"Add --redo to replace it, or --run NEW_NAME to keep both."
        )


def _flat(value: object, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}
