"""What `asr.bulk.cluster` uses of Ray, in this process: workers die when a test wants it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any


class Death(BaseException):
    """Raised in a worker, it ends that worker as a signal would."""


class RayError(Exception):
    """As in `ray.exceptions`."""


class RayTaskError(RayError):
    """As in `ray.exceptions`."""


class FakeRay:
    """A cluster; `connect` and `workers` say what went on."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, cpus: float = 2) -> None:
        self.cpus = cpus
        self.connected: list[dict[str, Any]] = []
        self.alive: list[Any] = []
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def init(self, **options: Any) -> None:
        self.connected.append(options)

    def shutdown(self) -> None:
        assert not self.alive, "all workers were ended"

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": self.cpus}}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def remote(self, **resources: Any) -> Any:
        def made(kind: type) -> Any:
            def start(*arguments: Any) -> Any:
                actor = SimpleNamespace()
                inner = kind(*arguments)
                for name in ("prepare", "run"):
                    actor.__dict__[name] = SimpleNamespace(remote=self._call(actor, inner, name))
                self.alive.append(actor)
                return actor

            return SimpleNamespace(remote=start)

        return made

    def _call(self, actor: Any, inner: Any, name: str) -> Any:
        return lambda *arguments: (id(actor), name, _Later(getattr(inner, name), arguments))

    def wait(self, calls: Sequence[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        assert calls
        return [calls[0]], list(calls[1:])

    def get(self, call: Any) -> Any:
        _, name, later = call
        self.calls.append((name, later.arguments))
        try:
            return later.function(*later.arguments)
        except Death as death:
            raise RayError(f"The worker died: {death}") from None

    def kill(self, actor: Any) -> None:
        if actor in self.alive:
            self.alive.remove(actor)


class _Later:
    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments
