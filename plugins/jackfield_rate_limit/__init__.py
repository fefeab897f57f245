"""How much a user may say: one bucket a user and workspace, over all his connections and all nodes, so that
reconnecting refills nothing."""

from __future__ import annotations

import attrs

from jackfield import ClientEvent, EngineUnavailable, RateLimited, Session, State, before

__all__ = ["RateLimit"]

FORGET_AT = 10_000


@attrs.frozen
class Bucket:
    """What is spent of it, as of `at` (wall clock, seconds). Pure."""

    spent: float = 0.0
    at: float = 0.0

    def take(self, cost: float, now: float, *, burst: float, rate: float) -> Bucket:
        """With `cost` tokens less. Raises RateLimited with the time until there are enough."""
        now = max(now, self.at)  # another node's clock may be ahead
        spent = max(0.0, self.spent - (now - self.at) * rate)
        if spent + cost > burst:
            raise RateLimited((spent + cost - burst) / rate)
        return Bucket(spent + cost, now)


BUCKETS = State("rate_limit", Bucket)
"""user → until it is full again"""


def _positive(_: object, field: attrs.Attribute[float], value: float) -> None:
    if value <= 0:
        raise ValueError(f"{field.name} must be more than 0")


@attrs.define(eq=False)
class RateLimit:
    """`events` in `per` seconds, at most `burst` at once. An event costs what its class says (`cost=`). Without the
    engine each node limits by itself."""

    events: float = attrs.field(default=120.0, validator=_positive)
    per: float = attrs.field(default=60.0, validator=_positive, metadata={"unit": "seconds"})
    burst: float = attrs.field(default=20.0, validator=_positive)
    name: str = "rate_limit"
    _empty_until: dict[tuple[str, str], float] = attrs.field(factory=dict, init=False, repr=False)
    _alone: dict[tuple[str, str], Bucket] = attrs.field(factory=dict, init=False, repr=False)

    @before(ClientEvent)
    async def limit(self, session: Session, event: ClientEvent) -> None:
        cost = event.__event__.cost
        if not cost:
            return
        key = (session.workspace.id, session.user_id)
        now = session.workspace.app.clock.time()
        rate = self.events / self.per
        # An empty bucket is answered here until the moment that was computed: a flood costs no commits.
        if (until := self._empty_until.get(key, 0.0)) > now:
            raise RateLimited(until - now)
        try:
            await session.workspace.update(
                BUCKETS,
                session.user_id,
                lambda bucket: bucket.take(cost, now, burst=self.burst, rate=rate),
                due=self.burst / rate,
            )
        except RateLimited as limited:
            self._remember_empty(key, now, limited.retry_after)
            raise
        except EngineUnavailable:
            self._alone[key] = self._alone.get(key, Bucket()).take(cost, now, burst=self.burst, rate=rate)
        else:
            self._alone.pop(key, None)

    def _remember_empty(self, key: tuple[str, str], now: float, retry_after: float) -> None:
        if len(self._empty_until) >= FORGET_AT:
            self._empty_until = {key: until for key, until in self._empty_until.items() if until > now}
        self._empty_until[key] = now + retry_after
