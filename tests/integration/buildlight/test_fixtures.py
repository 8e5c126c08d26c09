"""The fixtures give each test servers of its own."""

import aio_pika
import asyncpg


async def test_a_database_is_the_tests_own(database_url: str, empty_database_url: str) -> None:
    """Two databases of one test are two: a table made in one is not in the other."""
    one = await asyncpg.connect(database_url)
    two = await asyncpg.connect(empty_database_url)
    await one.execute("CREATE TABLE mine (n integer)")
    assert await two.fetchval("SELECT to_regclass('mine')") is None
    await one.close()
    await two.close()


async def test_a_virtual_host_takes_and_gives_a_message(amqp_url: str) -> None:
    """A message published to a queue of the test's virtual host comes back from it."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("mine", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), routing_key="mine")
        message = await queue.get(timeout=30)
        assert message.body == b"hello"
        await message.ack()


async def test_the_next_test_finds_nothing_of_the_last(amqp_url: str) -> None:
    """A queue of another test's is not there."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue("mine", durable=True)
        assert declared.declaration_result.message_count == 0
