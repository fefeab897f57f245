"""How much a user may say: one bucket a user and workspace, over all his connections and all nodes, so that
reconnecting refills nothing."""

from __future__ import annotations

import attrs

from jackfield import ClientEvent, RateLimited, Session, State, before
from jackfield.errors import EngineError

__all__ = ["RateLimit"]

FORGET_AT = 10_000
"""Users that a node remembers before it looks which of them it can forget."""

SLACK = 0.001
"""Tokens that clocks and roundings may cost: who waits as long as he was told is not refused again."""


@attrs.frozen
class Bucket:
    """What is spent of it, as of `at` (wall clock, seconds). Pure."""

    spent: float = 0.0
    at: float = 0.0

    def take(self, cost: float, now: float, *, burst: float, rate: float) -> Bucket:
        """With `cost` tokens less, all of them at most. Raises RateLimited with the time until there are enough."""
        at, spent = max(now, self.at), self.spent  # another node's clock may be ahead
        if at > now + burst / rate:  # by more than a whole filling: no, it has been set back since
            at, spent = now, 0.0
        spent = max(0.0, spent - max(0.0, at - self.at) * rate)
        lacking = spent + min(cost, burst) - burst
        if lacking > SLACK:
            raise RateLimited(lacking / rate + at - now)
        return Bucket(spent + min(cost, burst), at)


BUCKETS = State("rate_limit", Bucket)
"""user → until it is full again"""


def _positive(_: object, field: attrs.Attribute[float], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{field.name} must be more than 0")


@attrs.define(eq=False)
class RateLimit:
    """`events` in `per` seconds, at most `burst` at once. An event costs what its class says (`cost=`). Without the
    engine each node limits by itself."""

    events: float = attrs.field(default=120.0, validator=_positive)
    per: float = attrs.field(default=60.0, validator=_positive, metadata={"unit": "seconds"})
    burst: float = attrs.field(default=20.0, validator=_positive)
    name: str = "rate_limit"
    _known: dict[tuple[str, str], Bucket] = attrs.field(factory=dict[tuple[str, str], Bucket], init=False, repr=False)
    _forget_at: int = attrs.field(default=FORGET_AT, init=False, repr=False)

    @before(ClientEvent)
    async def limit(self, session: Session, event: ClientEvent) -> None:
        cost, key = event.__event__.cost, (session.workspace.id, session.user_id)
        if not cost:
            return
        now = session.workspace.app.clock.time()
        there = known = self._known.get(key, Bucket())
        after = self._take(known, cost, now)  # so much is spent for certain: a flood costs no commits

        def take(bucket: Bucket) -> Bucket:
            nonlocal there
            there = bucket
            return self._take(bucket, cost, now)

        try:
            await session.workspace.update(BUCKETS, session.user_id, take, due=self.burst * self.per / self.events)
        except RateLimited:
            self._remember(key, there, now)
            raise
        except EngineError:
            self._remember(key, after, now)
        else:
            self._known.pop(key, None)

    def _take(self, bucket: Bucket, cost: float, now: float) -> Bucket:
        return bucket.take(cost, now, burst=self.burst, rate=self.events / self.per)

    def _remember(self, key: tuple[str, str], bucket: Bucket, now: float) -> None:
        """What a user has spent at least, as far as this node knows by itself."""
        self._known[key] = bucket
        if len(self._known) > self._forget_at:
            full = self.burst * self.per / self.events
            self._known = {key: bucket for key, bucket in self._known.items() if bucket.at + full > now}
            self._forget_at = max(FORGET_AT, 2 * len(self._known))
