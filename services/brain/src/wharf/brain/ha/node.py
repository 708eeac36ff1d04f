"""One node of several: follows whoever leads, stands for election, leads, hands over.

Does what `role` decides. Everything that may wait (the lease, the engine, sessions) is a task of its own here;
everything a request needs to know (`leads`, `proven`, `reachable`) is answered at once from what those tasks last
learned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from wharf.brain.api.members import META_MEMBERS, Member
from wharf.brain.engine.base import EngineError, SharedEngine, epoch_number
from wharf.brain.errors import BadLeaderTransferee, BrainError, LeaderTransferTimeout, NoLeader, NotLeader, Stopped
from wharf.brain.ha.contact import LeaderContact
from wharf.brain.ha.crew import Crew
from wharf.brain.ha.election import Election
from wharf.brain.ha.link import Link
from wharf.brain.ha.publish import Publisher
from wharf.brain.ha.readgate import Point, ReadGate
from wharf.brain.ha.role import Do, Happened, Role, step
from wharf.brain.ha.roll import Roll, refusal
from wharf.brain.ha.tail import Tail
from wharf.brain.ha.unchanged import Unchanged
from wharf.brain.store.filling import check_finished
from wharf.common.clock import CLOCK, Clock
from wharf.common.pb.control import control_pb2 as control

if TYPE_CHECKING:
    from wharf.brain.api.answered import Caller
    from wharf.brain.ha.link import Done
    from wharf.brain.ha.service import ControlService
    from wharf.brain.ha.session import Session
    from wharf.brain.store.store import Store
    from wharf.brain.watch.hub import Hub
    from wharf.wire.rpc import Call

log = logging.getLogger(__name__)

BEAT: Final = 0.25  # seconds between questions to the leader that keep the answer "how far behind" fresh
HAND_OVER_SECONDS: Final = 2.0  # a node that goes waits for somebody else to lead
TRANSFER_LIFETIMES: Final = 2.0  # of the lease, for the member that is to lead to do so
READ_PATIENCE: Final = 5.0  # seconds a read may wait for this node to catch up


class HaNode:
    """See the module. Implements `router.Leader`, `service.Host` and `api.members.Cluster`."""

    def __init__(
        self,
        store: Store,
        engine: SharedEngine,
        election: Election,
        link: Link,
        tail_of: Callable[[Callable[[], None], Callable[[str], None]], Tail],
        publisher: Publisher,
        member: Member,
        clock: Clock = CLOCK,
    ) -> None:
        self.store, self.engine, self.election, self.link = store, engine, election, link
        self.member = member
        self.member_id, self.cluster_id = store.member_id, store.cluster_id
        self.epoch = 0
        self.role = Role.FOLLOWING
        self.fatal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.auth_version: Callable[[], int] = int  # of the users and roles that this node shows
        self.on_change: Callable[[], None] = _ignore  # who leads, or whether that is known, has changed
        self.on_term: Callable[[int], None] = _ignore
        self.on_leaderless: Callable[[bool], None] = _ignore
        self.service: ControlService | None = None
        self.leader_changes = 0  # seen
        self._hub: Hub | None = None
        self._clock = clock
        self._publisher = publisher
        self._gate = ReadGate(self._ask_index, self._want)
        self._tail = tail_of(self._confirm, self._failed)
        self._roll = Roll(member, store.write_meta)
        self._crew = Crew(self._failed)
        self._promotion: asyncio.Task[None] | None = None
        self._resigned = asyncio.Event()
        self._resigned.set()
        self._link_is_open = asyncio.Event()
        self._successor = 0
        self._contact = LeaderContact(clock.now())
        self._leaderless = False
        self._due, self._flying = Unchanged(), Unchanged()  # what reads wait for, and the batch that the engine has
        link.on_open, link.on_closed = self._link_opened, self._link_closed
        link.on_index, link.on_hand_over = self._index_answered, lambda _: election.look_soon()
        election.on_won, election.on_lost, election.on_leader = self._won, self._lost, link.target
        store.on_halt(self._halted)
        store.present.on_moved(self._moved)
        store.present.on_settled(publisher.settled)
        store.present.on_meta(META_MEMBERS, self._roll.read)

    # Life

    def start(self, hub: Hub) -> None:
        self._hub = hub
        self._crew.spawn(self.link.run())
        self._crew.spawn(self.election.run())
        self._crew.spawn(self._beat())
        self._tail.start()

    async def stop(self) -> None:
        """Let go of everything."""
        await self._crew.stop()
        await self._tail.stop()

    async def hand_over(self) -> None:
        """Before this node goes: let another lead, and wait until its clients' requests can be sent there."""
        self.election.withdraw()
        if self.role is Role.PROMOTING:
            self._happened(Happened.ASKED_TO_GO)
        if await self.step_down(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(HAND_OVER_SECONDS):
                    await self._link_is_open.wait()
        await self._resigned.wait()

    async def step_down(self, successor: int) -> bool:
        """Hand leadership over and wait until that is done; whether this node led."""
        if self.role not in (Role.LEADING, Role.RESIGNING):
            return False
        self._successor = successor
        self._happened(Happened.ASKED_TO_GO)
        await self._resigned.wait()
        return True

    # router.Leader

    def leads(self) -> bool:
        return self.role is Role.LEADING and self.election.may_lead() and self.store.leads

    def proven(self) -> bool:
        return self.store.leads and self.election.may_lead()

    def certain(self) -> bool:
        return self.store.present.certain

    def reachable(self) -> bool:
        return self.role is Role.FOLLOWING and self.link.open

    def ask(self, path: str, request: bytes, call: Call, done: Done, caller: Caller) -> None:
        self.link.ask(path, request, call, done, caller)

    def read(self, done: Callable[[bool], None]) -> None:
        if self.link.open:
            self._gate.read(done)
        else:
            done(False)

    # service.Host

    def published(self) -> Point:
        return Point(self.store.revision, self.store.compact_revision, self.auth_version())

    def joined(self, session: Session) -> str:
        hello = session.hello
        others = [other.hello for other in self.service.sessions] if self.service is not None else []
        refused = refusal(hello, self.cluster_id, self.member_id, others)
        if refused:
            return refused
        member = Member(hello.member_id, hello.name, tuple(hello.client_urls), tuple(hello.peer_urls))
        return "" if self._roll.joined(member) else "the cluster has as many members as can be"

    def left(self, session: Session) -> None:
        if not self.is_connected(session.hello.member_id):
            self._roll.left(session.hello.member_id, self._clock.now())

    def status(self) -> control.StatusResponse:
        position = self.engine.position()
        return control.StatusResponse(
            cluster_id=self.cluster_id,
            member_id=self.member_id,
            name=self.member.name,
            role=self.role.value,
            leader_id=self.leader_id,
            epoch=self.epoch,
            revision=self.store.revision,
            applied_revision=position.revision,
            applied_seq=position.seq,
            lag_seconds=self.lag(),
            lease_seconds=self.election.left(),
            events_connected=self._publisher.connected,
            followers=[session.hello.member_id for session in (self.service.sessions if self.service else ())],
            watchers=self._hub.watchers if self._hub is not None else 0,
        )

    # api.members.Cluster

    @property
    def leader_id(self) -> int:
        if self.role in (Role.LEADING, Role.RESIGNING):
            return self.member_id if self.proven() else 0
        proven = self._contact.has_leader(self._clock.now(), self.election.ttl_ms / 1000)
        return self.link.leader_id if proven else 0

    @property
    def term(self) -> int:
        return self.store.term

    def members(self) -> Sequence[Member]:
        return self._roll.members()

    def is_connected(self, member_id: int) -> bool:
        return member_id == self.member_id or (self.service is not None and self.service.has(member_id))

    def remove(self, member_id: int) -> Sequence[Member]:
        return self._roll.without(member_id)

    async def move_leader(self, member_id: int) -> None:
        if self.role is not Role.LEADING:
            raise NotLeader
        if member_id == self.member_id:
            return
        # It may be on its way here, if this leader is a new one.
        if self.service is None or not await self.service.wait_for(member_id, HAND_OVER_SECONDS):
            raise BadLeaderTransferee
        if not await self.step_down(member_id):
            raise NotLeader
        with suppress(TimeoutError):
            async with asyncio.timeout(TRANSFER_LIFETIMES * self.election.ttl_ms / 1000):
                await self._link_is_open.wait()
        if self.link.leader_id != member_id:
            raise LeaderTransferTimeout

    # What is seen of it

    def lag(self) -> float:
        """Seconds since this node last knew that it shows what the leader does; 0 on a leader."""
        return 0.0 if self.proven() else self._contact.lag(self._clock.now())

    @property
    def waiting_reads(self) -> int:
        return len(self._gate)

    @property
    def gaps(self) -> int:
        """Times events were missing and the log was read instead."""
        return self._tail.gaps

    def event(self, data: bytes) -> None:
        """A batch by NATS."""
        self._tail.event(data)

    def events_changed(self) -> None:
        """Events have begun or ceased to come."""
        self._tail.changed()

    # What happens

    def _happened(self, happened: Happened) -> None:
        self.role, todo = step(self.role, happened)
        if todo:
            log.info("this node is now %s: %s", self.role.value, happened.value)
        for each in todo:
            self._do(each)
        self.on_change()

    def _do(self, what: Do) -> None:
        match what:
            case Do.PROMOTE:
                self._promotion = self._crew.spawn(self._promote())
            case Do.LEAD:
                self._lead()
            case Do.DRAIN:
                self._resigned.clear()
                self._crew.spawn(self._drain())
            case Do.DROP:
                self.store.follow(NoLeader())
                self._publisher.stop()
            case Do.RELEASE:
                self._crew.spawn(self._release(self._successor))
            case Do.ABANDON:
                self._resigned.clear()
                self._crew.spawn(self._release(None))
            case Do.FOLLOW:
                self._cancel_promotion()
                self._tail.start()

    async def _release(self, successor: int | None) -> None:
        """Give the lease back, then tell those who wait for it, unless None: only now can one of them win."""
        await self.election.release(successor or 0)
        if self.service is not None and successor is not None:
            self.service.hand_over(successor)
        self._resigned.set()

    async def _promote(self) -> None:
        try:
            await self._tail.stop()
            promotion = await self.engine.promote(self.election.ttl_ms)
            self.epoch = promotion.epoch
            await self.election.succeed(epoch_number(promotion.epoch), promotion.previous_lease_ms)
        except EngineError as error:
            log.warning("the engine cannot be promoted: %s", error)
            self._promotion = None
            self.election.back_off()
            self._happened(Happened.ENGINE_FAILED)
            return
        self._promotion = None
        check_finished(self.engine)  # an import may have taken the engine over; then this process ends
        if self.role is Role.PROMOTING:
            self._happened(Happened.READY)

    def _cancel_promotion(self) -> None:
        task, self._promotion = self._promotion, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _lead(self) -> None:
        self.link.target("")
        self._gate.lost()
        self._publisher.start()
        self._set_epoch(self.epoch)
        self.store.lead(self.epoch)
        self._roll.lead(self._clock.now())
        log.info("leading", extra={"epoch": self.epoch, "revision": self.store.revision})

    async def _drain(self) -> None:
        if self.store.leads:
            await self.store.leading.stop()
        if self.role is Role.RESIGNING:
            self._happened(Happened.DRAINED)

    def _won(self) -> None:
        self._happened(Happened.LEASE_WON)

    def _lost(self) -> None:
        self._resigned.set()
        self._happened(Happened.LEASE_LOST)

    def _halted(self, error: BrainError) -> None:
        """The store has stopped writing by itself: it was fenced, or its engine failed."""
        if not isinstance(error, Stopped) and self.role in (Role.LEADING, Role.RESIGNING):
            asyncio.get_running_loop().call_soon(self._fenced)

    def _fenced(self) -> None:
        if self.role in (Role.LEADING, Role.RESIGNING):
            self._resigned.set()
            self._happened(Happened.FENCED)

    def _link_opened(self) -> None:
        self._link_is_open.set()
        self._contact.leads(self._clock.now())  # only a leader opens a session
        self._set_epoch(self.link.epoch)
        self._confirm()
        self.on_change()

    def _link_closed(self) -> None:
        self._link_is_open.clear()
        self._gate.lost()
        self.election.look_soon()
        self.on_change()

    def _set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch or self.store.term != epoch_number(epoch) + 1:
            self.leader_changes += 1
            self.epoch = epoch if epoch_number(epoch) == epoch_number(self.epoch) else max(self.epoch, epoch)
            self.on_term(epoch_number(self.epoch) + 1)

    def _failed(self, why: str) -> None:
        self._resigned.set()  # nobody waits for what may never come
        if not self.fatal.done():
            self.fatal.set_result(why)

    # Keeping up

    def _want(self, point: Point) -> None:
        self._tail.confirmed(point.revision)
        self._tail.want(lambda: self.published().reaches(point))

    def _confirm(self) -> None:
        """Ask the leader how far it is, so that what this node has may be shown."""
        if self.link.open:
            self._gate.read(_ignore)

    def _ask_index(self, token: int) -> None:
        self._contact.asked(self._clock.now())
        self.link.ask_index(token)

    def _index_answered(self, token: int, point: Point | None) -> None:
        self._contact.answered(point, self._clock.now())
        if point is not None:
            self._tail.confirmed(point.revision)
            self._look_at_shown()
        self._gate.answered(token, point)

    def _look_at_shown(self) -> None:
        self._contact.shows(self.published())
        if self.certain():
            self._gate.shown(self.published())

    def _moved(self) -> None:
        self._look_at_shown()
        self._publisher.flush(self.store.revision)

    async def _beat(self) -> None:
        """What must be looked at from time to time."""
        ttl = self.election.ttl_ms / 1000
        while True:
            await asyncio.sleep(BEAT)
            now = self._clock.now()
            if self.link.open:
                if self._gate.token and self._contact.silence(now) > max(ttl, 2.0):
                    log.warning("the leader does not answer, looking for it anew")
                    self.link.restart()
                elif not self._gate.token:
                    self._confirm()
            else:
                self._contact.idle(now)
            self._look_after_reads(now)
            self._look_after_engine(now)
            self._note_leaderless(now, ttl)
            if self.leads():
                self._roll.forget(now, self.is_connected)

    def _look_after_reads(self, now: float) -> None:
        """Reads that wait for a revision which does not come try again from the start, as long as they may."""
        if self._due.seconds(self._gate.due, now) > READ_PATIENCE:
            self._gate.give_up()

    def _look_after_engine(self, now: float) -> None:
        stuck = self._flying.seconds(self.store.leading.flying if self.store.leads else None, now)
        if stuck > 2 * self.election.ttl_ms / 1000 and self.role in (Role.LEADING, Role.RESIGNING):
            log.error("the engine has not answered this node for %.1f s: letting others try", stuck)
            self._successor = 0
            self.election.back_off()
            self._happened(Happened.STUCK)

    def _note_leaderless(self, now: float, ttl: float) -> None:
        """Watches that insist on a leader end when there has been none for long: their clients find another node."""
        if self.proven():
            self._contact.leads(now)
        leaderless = self._contact.is_leaderless(now, ttl)
        if leaderless != self._leaderless:
            self._leaderless = leaderless
            self.on_leaderless(leaderless)


def _ignore(*_: object) -> None: ...
