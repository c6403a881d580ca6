"""Changes of members as kinds of faults: nobody's fault, and mischief for all who think they know who holds what.

Each makes one, or returns False where it cannot. What the cluster makes of it takes longer than any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamo_fast.testing.faults import Faults


def join(faults: Faults) -> bool:
    spare = faults.operator.spare()
    if spare is not None:
        faults.operator.join(spare)
    return spare is not None


def leave(faults: Faults) -> bool:
    name = faults.operator.one_to_let_go()
    if name is not None:
        faults.operator.leave(name)
    return name is not None


def replace(faults: Faults) -> bool:
    """A member that is well gives way to a new machine."""
    staying, spare = faults.operator.staying(), faults.operator.spare()
    if not staying or spare is None:
        return False
    faults.operator.replace(faults.chance.choice(staying), spare)
    return True


def weight(faults: Faults) -> bool:
    staying = faults.operator.staying()
    if not staying:
        return False
    faults.operator.weigh(faults.chance.choice(staying), faults.chance.choice([25, 50, 100, 200]))
    return True


def another_zone(faults: Faults) -> bool:
    """A machine is said to stand in another zone than it was thought to."""
    staying = faults.operator.staying()
    if not staying:
        return False
    faults.operator.move(faults.chance.choice(staying), faults.chance.choice(["", "east", "west"]))
    return True


def several_at_once(faults: Faults) -> bool:
    """Several changes are asked of several members that have not heard of each other's."""
    kinds = [join, leave, replace, weight]
    done = [faults.chance.choice(kinds)(faults) for _ in range(faults.chance.choice([2, 3]))]
    return any(done)


def many_in_one_step(faults: Faults) -> bool:
    """Most homes of a partition may be others at once: two members give way to new machines, and one more joins."""
    operator = faults.operator
    replaced = faults.chance.sample(staying := operator.staying(), min(2, len(staying)))
    spares = [spare for _ in range(len(replaced) + 1) if (spare := operator.spare(take=True)) is not None]
    if len(spares) < 2:
        return False
    operator.exchange(list(zip(replaced, spares, strict=False)), spares[len(replaced) :])
    return True


def change_of_mind(faults: Faults) -> bool:
    """A machine joins, and is sent away before or after it has arrived."""
    spare = faults.operator.spare()
    if spare is None:
        return False
    faults.operator.join(spare)
    faults.later(faults.operator.leave, spare)
    return True


def lost_member(faults: Faults) -> bool:
    """A member dies for good, or is taken for dead for so long that it is given up; then it comes back and finds that out."""
    members = faults.operator.staying()
    if not members:
        return False
    name = faults.chance.choice(members)
    if not faults.operator.lose(name, destroyed=faults.chance.random() < 0.7):
        return False
    faults.later(faults.operator.bury, name)
    return True


def given_up_alive(faults: Faults) -> bool:
    """A member is declared dead that runs: somebody took it for dead too early. It has to find that out, and serve nothing any more."""
    members = faults.operator.staying()
    return bool(members) and faults.operator.give_up(faults.chance.choice(members))


def second_thoughts(faults: Faults) -> bool:
    """Members that have not heard of each other's are asked that a machine joins, leaves, and joins after all: who has departed is not to
    be one again, whatever comes last."""
    spare = faults.operator.spare()
    if spare is None:
        return False
    faults.operator.join(spare)
    faults.later(faults.operator.leave, spare)
    faults.later(faults.operator.rejoin, spare)
    return True


def lost_newcomer(faults: Faults) -> bool:
    """A machine dies for good while it joins."""
    newcomers = faults.operator.newcomers()
    if not newcomers:
        spare = faults.operator.spare()
        if spare is None:
            return False
        faults.operator.join(spare)
        newcomers = [spare]
    name = faults.chance.choice(newcomers)

    def dies() -> None:
        if faults.operator.lose(name, destroyed=True):
            faults.later(faults.operator.bury, name)

    faults.later(dies)
    return True


def scrap(faults: Faults) -> bool:
    """A machine that has left and says that it holds nothing any more is thrown away, which takes nothing from anybody."""
    gone = faults.operator.gone()
    if not gone:
        return False
    faults.chance.choice(gone).destroy()
    return True


PEACEFUL = {one.__name__ for one in (join, leave, replace, weight, another_zone, several_at_once, many_in_one_step, change_of_mind,
                                     second_thoughts)}  # fmt: skip  # nobody is away, and nothing is lost
MEMBERS: tuple[Callable[[Faults], bool], ...] = (
    join, leave, replace, weight, another_zone, several_at_once, many_in_one_step, change_of_mind, second_thoughts, lost_member,
    given_up_alive, lost_newcomer, scrap,
)  # fmt: skip
