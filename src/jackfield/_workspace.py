"""A workspace, as hosts and plugins hold it: publish, remember, revoke."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from jackfield._commit import Post, Receipt, as_posts
from jackfield._view import reader
from jackfield.engine import Key

if TYPE_CHECKING:
    from jackfield._app import Jackfield
    from jackfield._audience import Audience
    from jackfield._state import Change, State, Transaction
    from jackfield.events import ServerEvent

__all__ = ["Workspace"]

T = TypeVar("T")


class Workspace:
    """One workspace of an application; made by `app.workspace(id)`, and as cheap as its id."""

    __slots__ = ("app", "id")

    def __init__(self, app: Jackfield, id: str) -> None:
        self.app = app
        self.id = id

    def __repr__(self) -> str:
        return f"<Workspace {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and other.id == self.id and other.app is self.app

    def __hash__(self) -> int:
        return hash(self.id)

    async def publish(
        self,
        event: ServerEvent,
        *,
        to: Audience | None = None,
        except_users: Collection[str] = (),
        id: str | None = None,
    ) -> Receipt:
        """Make it happen: returns when the engine has it, and the fan-out follows.

        `to` replaces the audience that the event or the plugins give it; `except_users` get it in no case. With an `id`
        repeating it is harmless: the first one wins, as long as the history is kept. Raises UnknownAudience when nobody
        can say who sees it, what a `@before` hook vetoed it with, EngineUnavailable (outcome unknown: repeat with the
        same id), or TypeError when no plugin registers the event or a field holds what it may not.
        """
        return (await self.publish_all([Post(event, to, except_users, id)]))[0]

    async def publish_all(self, events: Iterable[ServerEvent | Post]) -> list[Receipt]:
        """Several events, in this order, all of them or none; each is decided as if those before it had happened. A
        `Post` says what there is to say beside the event.

        Raises as `publish`.
        """
        posts = as_posts(events)
        for post in posts:
            if not self.app.events.publishable(type(post.event)):
                raise TypeError(
                    f"{type(post.event).__name__} cannot be published; a plugin registers it in register_events"
                )
            self.app.node.wire.check(post.event)

        async def decide(transaction: Transaction) -> Sequence[Post]:
            return posts

        return await self.app.node.commits.decide(self, decide)

    async def get(self, state: State[T], key: str) -> T:
        """What is remembered under a key."""
        cell = Key(state.name, key)
        snapshot = await reader(self.app.node.engine, self.id).read(self.id, (cell,))
        return state.load(snapshot.cells[cell])

    async def all(self, state: State[T]) -> Mapping[str, T]:
        """Every key that holds something, all at one instant."""
        snapshot = await reader(self.app.node.engine, self.id).read(self.id, tables=(state.name,))
        return {key: state.load(value) for key, value in snapshot.tables[state.name].items()}

    async def update(
        self,
        state: State[T],
        key: str,
        change: Callable[[T], T],
        *,
        publish: Callable[[T, T], ServerEvent | Post | Iterable[ServerEvent | Post] | None] | None = None,
        due: float | None = None,
    ) -> Change[T]:
        """Put what `change` makes of the value in its place, and publish what `publish(before, after)` says, in one
        commit.

        Both are pure functions, and may run again. A change that makes no difference writes nothing and publishes
        nothing. `due`, in seconds, has `cell_due` asked then. Raises what `change` raises, and as `publish`.
        """
        made: list[Change[T]] = []

        async def decide(transaction: Transaction) -> Sequence[Post]:
            made[:] = [await transaction.update(state, key, change, due=due)]
            if not made[0] or publish is None:
                return ()
            return as_posts(publish(made[0].before, made[0].after))

        await self.app.node.commits.decide(self, decide)
        return made[0]

    async def revoke(self, user_id: str) -> int:
        """End every connection of a user, on every node, by close code 4503; tokens issued before now are refused from
        here on. Returns how many there were.

        A principal without `issued_at` (a cookie) is only ended: whether it may come back is for `authenticate` to say.
        """
        return await self.app.node.roster.revoke(self, user_id)
