"""How something happens: what an event changes, what follows from it and its place in the log are one commit, or
nothing.

Whatever waits for a workspace is decided one after the other on one overlay and committed together: one trip to the
engine for all of it, and no conflicts inside a node. On a conflict with another node everything is decided again.
Whoever comes first leads and commits for those who wait; nobody needs a task for it.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import anyio
import attrs

from jackfield._audience import Audience, Users, topics
from jackfield._clock import Clock, Deadline, Timers
from jackfield._log import REVOKED, Head, Sight, sight_of
from jackfield._state import Overlay, Transaction, savepoint
from jackfield.engine import Commit, Committed, Conflict, Draft, Engine, EngineUnavailable, Key, Rewound
from jackfield.errors import UnknownAudience
from jackfield.events import ServerEvent

if TYPE_CHECKING:
    from jackfield._dispatch import Call, Dispatcher
    from jackfield._plugins import Plugins
    from jackfield._wire import Wire
    from jackfield._workspace import Workspace

__all__ = ["Commits", "Decision", "Post", "Posted", "Receipt", "Revocation", "as_posts"]

logger = logging.getLogger("jackfield")

COMMIT_WITHIN = 3.0
PATIENT_AFTER = 8
PAUSE = 0.02
TOGETHER = 256
NESTING = 8
NEVER = Key("~", "never")
"""A cell that nobody writes."""


@attrs.frozen
class Post:
    """An event to publish. `to` replaces the audience that is derived; `id` makes repeating it harmless."""

    event: ServerEvent
    to: Audience | None = None
    except_users: Collection[str] = ()
    id: str | None = None


@attrs.frozen
class Receipt:
    """What became of a post. `position` is its place in the log, for durable events; `published` is False where it
    changed nothing, or had been published before."""

    id: str
    position: int | None
    published: bool


def as_posts(events: ServerEvent | Post | Iterable[ServerEvent | Post] | None) -> list[Post]:
    """What a hook returned to be published: events, or posts where it says to whom."""
    if events is None:
        return []
    if isinstance(events, ServerEvent | Post):
        events = (events,)
    return [event if isinstance(event, Post) else Post(event) for event in events]


class Posted(NamedTuple):
    """An event that is in the log now."""

    event: ServerEvent
    position: int


Decision = Callable[[Transaction], Awaitable[Sequence[Post]]]
"""What to publish, given what the workspace holds; reads and writes through the transaction, and may run again."""


class Revocation(ServerEvent, type=REVOKED):
    """Ends a user's connections; stands in the log, and reaches no client."""

    user_id: str
    since: float


class _Plan(NamedTuple):
    """What one post came to: a draft (by number), its own or that of the same id before it; or where it stands
    already."""

    id: str
    draft: int | None
    own: bool
    stands: int | None
    lasting: bool

    def receipt(self, committed: Committed) -> Receipt:
        position = self.stands if self.draft is None else committed.first + self.draft
        return Receipt(self.id, position if self.lasting else None, self.own)


class _Unit:
    """One decision that waits for its commit."""

    __slots__ = ("abandoned", "decide", "done", "error", "ids", "leads", "plans", "receipts", "wake")

    def __init__(self, decide: Decision) -> None:
        self.decide = decide
        self.ids: list[str] = []
        self.plans: list[_Plan] = []
        self.receipts: list[Receipt] = []
        self.error: Exception | None = None
        self.leads = False
        self.abandoned = False
        self.done = False
        self.wake: anyio.Event | None = None

    async def wait(self) -> None:
        """Until it is done, or is to lead."""
        self.wake = anyio.Event()
        await self.wake.wait()

    def rouse(self) -> None:
        if self.wake is not None:
            self.wake.set()

    def finish(self, committed: Committed) -> None:
        self.receipts = [plan.receipt(committed) for plan in self.plans]
        self.done = True
        self.rouse()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done = True
        self.rouse()

    def outcome(self) -> list[Receipt]:
        if self.error is not None:
            raise self.error
        return self.receipts


class _Row:
    """Those who wait for a workspace; `led` while one of them commits for all, `asking` while the engine is at it."""

    __slots__ = ("asking", "deadline", "led", "units")

    def __init__(self) -> None:
        self.deadline: Deadline | None = None
        self.units: deque[_Unit] = deque()
        self.led = False
        self.asking = False


class _Drafted(NamedTuple):
    event: ServerEvent
    draft: Draft


class _Settled(NamedTuple):
    """An event that will happen, and to whom. `own`: it is what was posted, or stands for it; the rest follows."""

    event: ServerEvent
    audience: Audience
    sight: Sight | None
    own: bool = True


class Commits:
    """Every decision of a node, workspace by workspace."""

    def __init__(
        self,
        engine: Engine,
        plugins: Plugins,
        wire: Wire,
        dispatcher: Dispatcher,
        clock: Clock,
        timers: Timers,
        *,
        seen: Callable[[str], tuple[str, int, str]],
        posted: Callable[[str, Sequence[Posted]], None],
        due: Callable[[float], None],
    ) -> None:
        self._engine = engine
        self._plugins = plugins
        self._wire = wire
        self._dispatcher = dispatcher
        self._clock = clock
        self._timers = timers
        self._seen = seen
        self._posted = posted
        self._due = due
        self._audience_of = plugins.calls("audience_of")
        self._before: dict[type[ServerEvent], tuple[Call, ...]] = {}
        self._rows: dict[str, _Row] = {}
        self._within = COMMIT_WITHIN

    def hasten(self, seconds: float) -> None:
        """From now on no commit may take longer, nor those that run: whoever ends waits for no engine."""
        self._within = min(self._within, seconds)
        for row in self._rows.values():
            if row.deadline is not None:
                row.deadline.hasten(self._within)

    async def decide(self, workspace: Workspace, decision: Decision) -> list[Receipt]:
        """Commit a decision; returns when the engine has it. Raises what the decision or a hook raised, or
        EngineUnavailable when the outcome is unknown."""
        unit = _Unit(decision)
        row = self._rows.setdefault(workspace.id, _Row())
        row.units.append(unit)
        if row.led:
            try:
                await unit.wait()
            except BaseException:
                unit.abandoned = True
                if unit in row.units:
                    row.units.remove(unit)
                if unit.leads:  # it was to lead from here on, and cannot
                    self._hand_over(workspace.id, row)
                raise
        if not unit.done:
            row.led = True
            try:
                while not unit.done:
                    await self._round(workspace, row, unit)
            finally:
                self._hand_over(workspace.id, row)
        return unit.outcome()

    def _hand_over(self, workspace_id: str, row: _Row) -> None:
        if row.units:
            row.units[0].leads = True
            row.units[0].rouse()
        else:
            row.led = False
            del self._rows[workspace_id]

    # --- one commit

    async def _round(self, workspace: Workspace, row: _Row, leader: _Unit) -> None:
        """Decide all that waits, and commit it."""
        units = [row.units.popleft() for _ in range(min(len(row.units), TOGETHER))]
        try:
            committed, drafted = await self._commit(workspace, row, units)
        except Exception as error:
            for unit in units:
                unit.fail(error)
            return
        except BaseException:  # cancelled: the one who led goes, the others are decided by the next
            left = [unit for unit in units if unit is not leader and not unit.abandoned]
            if row.asking:  # asyncio's own cancellation knows no shield; deciding anew might say it all twice
                row.asking = False
                for unit in left:
                    unit.fail(EngineUnavailable("who committed for all was cancelled"))
            else:
                row.units.extendleft(reversed(left))
            raise
        for unit in units:
            unit.finish(committed)
        if drafted:
            self._posted(workspace.id, [Posted(d.event, committed.first + i) for i, d in enumerate(drafted)])

    async def _commit(
        self, workspace: Workspace, row: _Row, units: Sequence[_Unit]
    ) -> tuple[Committed, list[_Drafted]]:
        try:
            with Deadline(self._timers, self._within) as row.deadline:
                return await self._decide_until_it_holds(workspace, row, units, row.deadline)
        except TimeoutError:
            raise EngineUnavailable(f"a commit took longer than {self._within:g} s") from None
        finally:
            row.deadline = None

    async def _decide_until_it_holds(
        self, workspace: Workspace, row: _Row, units: Sequence[_Unit], deadline: Deadline
    ) -> tuple[Committed, list[_Drafted]]:
        overlay = Overlay(self._engine, workspace.id, self._clock.time())
        known: dict[str, int | None] = {}
        tries = 0
        rewound = False
        while True:
            drafted: list[_Drafted] = []
            taken: dict[str, int | None] = {}
            for unit in units:
                await self._decide(workspace, unit, overlay, known, taken, drafted)
            failed = [id for unit in units if unit.error is not None for id in unit.ids if id not in known]
            if failed and (published := await self._known(workspace, failed)):
                known.update(published)
                overlay.again({}, overlay.now)
                continue
            silent = [id for id, draft in taken.items() if draft is None]
            if not drafted and not overlay.writes and not silent:
                return Committed(1, 0, overlay.now), drafted
            epoch, seen, seen_id = ("", 0, "") if rewound else self._seen(workspace.id)
            commit = Commit(
                epoch=epoch,
                seen=seen,
                seen_id=seen_id,
                expected=overlay.expected,
                cells=tuple(overlay.writes.values()),
                drafts=tuple([d.draft for d in drafted]),
                ids=silent,
            )
            # Cancelling whoever leads must not leave those who wait without an answer.
            deadline.shield = row.asking = True
            try:
                outcome = await self._engine.commit(workspace.id, commit)
            except Rewound:  # the feed tells those who are connected; what is published stands in the new epoch
                deadline.shield = row.asking = False
                rewound = True
                continue
            except Exception:
                row.asking = False
                raise
            deadline.shield = row.asking = False
            if not isinstance(outcome, Conflict):
                for cell in commit.cells:
                    if cell.due is not None:
                        self._due(cell.due)
                return outcome, drafted
            known.update(outcome.known)
            overlay.again(outcome.cells, outcome.now)
            tries += 1
            if tries >= PATIENT_AFTER:
                await self._clock.sleep(random.random() * PAUSE)

    async def _decide(
        self,
        workspace: Workspace,
        unit: _Unit,
        overlay: Overlay,
        known: dict[str, int | None],
        taken: dict[str, int | None],
        drafted: list[_Drafted],
    ) -> None:
        """One unit, all of it or nothing. What it raises is its own outcome; what it read is compared all the same."""
        mark, drafts, ids = overlay.mark(), len(drafted), dict(taken)
        unit.plans, unit.error = [], None
        transaction = Transaction(workspace, overlay)
        try:
            posts = await unit.decide(transaction)
            unit.ids = [post.id for post in posts if post.id is not None]
            for post in posts:
                unit.plans.append(await self._plan(transaction, overlay, post, known, taken, drafted))
        except EngineUnavailable:
            raise
        except Exception as error:  # raised again where the unit was submitted
            unit.error = error
            overlay.back_to(mark)
            del drafted[drafts:]
            taken.clear()
            taken.update(ids)

    async def _known(self, workspace: Workspace, ids: Sequence[str]) -> Mapping[str, int | None]:
        """Which of these have been published. What cannot be published (again), such as the end of a message, may have
        been a moment ago. Asked by a commit that never holds."""
        outcome = await self._engine.commit(workspace.id, Commit(expected={NEVER: b""}, ids=ids))
        assert isinstance(outcome, Conflict), "it cannot hold"
        return outcome.known

    async def _plan(
        self,
        transaction: Transaction,
        overlay: Overlay,
        post: Post,
        known: dict[str, int | None],
        taken: dict[str, int | None],
        drafted: list[_Drafted],
    ) -> _Plan:
        id = post.id or secrets.token_hex(12)
        if id in known:
            return _Plan(id, None, False, known[id], post.event.__event__.delivery.kind == "durable")
        if id in taken:
            number = taken[id]
            return _Plan(id, number, False, None, number is not None and drafted[number].draft.lasting)
        mark = overlay.mark()
        outcome = await self._settle(transaction, post, None, 0)
        if not any(settled.own for settled in outcome):
            overlay.back_to(mark)
            if post.id is not None:
                taken[id] = None
            return _Plan(id, None, False, None, False)
        now = self._clock.time()
        workspace_id = transaction.workspace.id
        for event, audience, sight, own in outcome:
            named = own and id not in taken
            if named:
                taken[id] = len(drafted)
            draft = self._draft(id if named else secrets.token_hex(12), event, audience, sight, workspace_id, now)
            drafted.append(_Drafted(event, draft))
        number = taken[id]
        assert number is not None, "it has just been drafted"
        return _Plan(id, number, True, None, drafted[number].draft.lasting)

    def _draft(
        self, id: str, event: ServerEvent, audience: Audience, sight: Sight | None, workspace_id: str, now: float
    ) -> Draft:
        delivery = event.__event__.delivery
        if isinstance(event, Revocation):
            head = Head(REVOKED, audience, "control", (event.user_id, event.since))
            return Draft(id, head.dump(), b"", lasting=True)
        head = Head(
            event.__event__.type,
            audience,
            delivery.kind,
            delivery.key_of(event) if delivery.kind == "latest" else (),
            sight,
        )
        text = self._wire.encode(event, workspace_id, now)
        return Draft(id, head.dump(), text.encode(), lasting=delivery.kind == "durable")

    # --- who sees it, who decides, what follows

    async def _settle(self, transaction: Transaction, post: Post, cause: Audience | None, depth: int) -> list[_Settled]:
        """An event and what follows from it, each with its audience; empty where it changes nothing."""
        event = post.event
        if depth > NESTING:
            raise RecursionError(f"{event.__event__.type} follows from itself; look at its @before hooks")
        audience = post.to
        if audience is None and cause is None:
            audience = await self._ask(transaction, event)
        if audience is None:
            audience = event.audience()
        if audience is None:  # what follows goes where its cause went, unless it says itself
            audience = cause
        if audience is None:
            raise UnknownAudience(
                f"nobody says who sees {event.__event__.type}: publish it with to=, "
                "or add a plugin that answers audience_of"
            )
        transaction.audience, transaction.moves_sight, transaction.seen_by = audience, True, None
        spared = [*post.except_users]
        ahead: list[Post] = []
        behind: list[Post] = []
        for call in self._calls(type(event)):
            verdict = await self._dispatcher.decide(call, transaction, event)
            if verdict is None:
                continue
            posts = as_posts(verdict)
            place = next((n for n, other in enumerate(posts) if type(other.event) is type(event)), None)
            if place is None:  # swallowed, or something else stands for it
                return [
                    *(await self._follow(transaction, ahead, audience, depth) if posts else ()),
                    *(
                        other._replace(audience=_without(other.audience, spared), own=True)
                        for other in await self._follow(transaction, posts, audience, depth)
                    ),
                ]
            ahead += posts[:place]
            own = posts[place]
            event = own.event
            spared += own.except_users
            if own.to is not None:
                transaction.audience = audience = own.to
            behind += posts[place + 1 :]
        if event.__event__.delivery.kind == "durable" and topics(audience):
            raise ValueError(
                f"{event.__event__.type} is durable, and a topic ends with its connections; make it latest(…)"
            )
        sight = sight_of(event, transaction.seen_by) if transaction.moves_sight else None
        # Lasting ones first: a thread's numbers stand directly behind the reply, whatever the order of the plugins.
        behind.sort(key=lambda post: post.event.__event__.delivery.kind != "durable")
        return [
            *await self._follow(transaction, ahead, audience, depth),
            _Settled(event, _without(audience, spared), sight),
            *await self._follow(transaction, behind, audience, depth),
        ]

    async def _follow(
        self, transaction: Transaction, posts: Sequence[Post], cause: Audience, depth: int
    ) -> list[_Settled]:
        settled: list[_Settled] = []
        for post in posts:
            undo = savepoint(transaction)
            others = await self._settle(transaction, post, cause, depth + 1)
            if not others:  # it has been swallowed
                undo()
            settled += others
        return [other._replace(own=False) for other in settled]

    async def _ask(self, transaction: Transaction, event: ServerEvent) -> Audience | None:
        for call in self._audience_of:
            answer: Audience | None = await self._dispatcher.decide(call, transaction, event)
            if answer is not None:
                return answer
        return None

    def _calls(self, event: type[ServerEvent]) -> tuple[Call, ...]:
        calls = self._before.get(event)
        if calls is None:
            calls = self._before[event] = () if event is Revocation else self._plugins.before(event)
        return calls


def _without(audience: Audience, spared: Sequence[str]) -> Audience:
    return audience - Users(*spared) if spared else audience
