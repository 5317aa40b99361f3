"""Orders on a real broker: submitted, pushed, obeyed, cancelled, expired, lost, and told of each once."""

from store_world import world

from muster_contracts.command.v1 import CommandState
from muster_testing.wait import until


async def test_an_order_is_pushed_obeyed_and_settled_once() -> None:
    async with world("a1") as here:
        agent = await here.agent("a1")
        command = await here.order()
        await until(lambda: agent.orders)
        assert agent.orders[0].terms.body == {"verb": "package.restart", "package": "web"}
        await here.reaches(command, CommandState.ACCEPTED)
        report = await agent.end(command, exit_code=0, result={"pid": 7})
        target = await here.reaches(command, CommandState.SUCCEEDED)
        assert (target.reason, target.result) == ("done", {"pid": 7})
        await agent.bus.say(report)
        [settled] = await here.settles(command)
        assert settled.target == target
