"""What applications do with redis-py: `redis_suite.py PORT PROTOCOL PREFIX`.

Each function is one check with assertions; prints the name of each that passed. All keys begin
with the prefix, so that several copies can run at once.
"""

import sys
import threading
import time

import redis

PORT, PROTOCOL, PREFIX = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def connect(**options):
    """A client with a pool of connections of its own."""
    settings = {"protocol": PROTOCOL, "decode_responses": True, "client_name": "suite"}
    return redis.Redis(port=PORT, **(settings | options))


def key(name):
    """A key of this copy's own."""
    return f"{PREFIX}:{name}"


def check_values():
    """Values of every type, text and bytes."""
    with connect() as client, connect(decode_responses=False) as raw:
        assert client.set(key("a"), "zwei ü") is True
        assert client.get(key("a")) == "zwei ü"
        assert raw.set(key("b"), b"\0\xff\r\n") is True
        assert raw.get(key("b")) == b"\0\xff\r\n"
        assert client.get(key("none")) is None
        assert client.hset(key("h"), mapping={"f": 1, "g": "x"}) == 2
        assert client.hgetall(key("h")) == {"f": "1", "g": "x"}
        client.zadd(key("z"), {"a": 1.5, "b": 2})
        assert dict(client.zrange(key("z"), 0, -1, withscores=True)) == {"a": 1.5, "b": 2.0}
        client.sadd(key("s"), "x", "y")
        assert client.smembers(key("s")) == {"x", "y"}
        big = "x" * 3_000_000
        client.set(key("big"), big)
        assert client.get(key("big")) == big
        assert client.client_getname() == "suite"


def check_pipelines():
    """Many commands at once, with and without a transaction, with an error among them."""
    with connect() as client:
        for transaction in (False, True):
            client.delete(key("n"))
            with client.pipeline(transaction=transaction) as pipe:
                for _ in range(500):
                    pipe.incr(key("n"))
                assert pipe.execute() == list(range(1, 501))
            client.set(key("t"), "text")
            with client.pipeline(transaction=transaction) as pipe:
                pipe.incr(key("n")).lpush(key("t"), 1).incr(key("n"))
                results = pipe.execute(raise_on_error=False)
            assert results[0] == 501 and results[2] == 502, results
            assert isinstance(results[1], redis.ResponseError), results


def check_watch():
    """Transactions of several threads on one key, each tried again until nobody interfered."""
    with connect() as client:
        client.set(key("w"), 0)

        def work():
            for _ in range(20):
                def add(pipe):
                    value = int(pipe.get(key("w")))
                    pipe.multi()
                    pipe.set(key("w"), value + 1)
                client.transaction(add, key("w"))

        run_threads(work, 4)
        assert int(client.get(key("w"))) == 80


def check_scripts():
    """Scripts that are loaded on demand."""
    with connect() as client:
        # A text of this copy's own, which the node does not know yet.
        text = f"-- {PREFIX}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])"
        script = client.register_script(text)
        client.delete(key("n"))
        assert [script(keys=[key("n")], args=[5]) for _ in range(3)] == [5, 10, 15]
        try:
            client.eval("return redis.error_reply('MINE no')", 0)
            raise AssertionError("an error was expected")
        except redis.ResponseError as error:
            assert "no" in str(error), error


def check_blocking():
    """Waits that are over in time, that are not, and a queue with many workers."""
    with connect() as client:
        assert client.blpop(key("none"), timeout=0.05) is None
        taken = []

        def work():
            while (popped := client.blpop(key("queue"), timeout=10))[1] != "stop":
                taken.append(popped[1])

        def feed():
            for number in range(200):
                client.rpush(key("queue"), number)
            client.rpush(key("queue"), *["stop"] * 4)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        feed()
        for thread in threads:
            thread.join(20)
        assert sorted(map(int, taken)) == list(range(200)), len(taken)


def check_scan():
    """Iterations over keys, fields and members."""
    with connect() as client:
        with client.pipeline(transaction=False) as pipe:
            for number in range(1000):
                pipe.set(key(f"scan:{number}"), number)
            pipe.execute()
        found = set(client.scan_iter(match=key("scan:*"), count=50))
        assert len(found) == 1000, len(found)
        client.hset(key("sh"), mapping={f"f{number}": number for number in range(1000)})
        assert len(dict(client.hscan_iter(key("sh"), count=50))) == 1000


def check_databases():
    """Clients of different databases side by side."""
    clients = [connect(db=database) for database in range(4)]
    for database, client in enumerate(clients):
        client.set(key("db"), database)
    for database, client in enumerate(clients):
        assert client.get(key("db")) == str(database)
        client.close()


def check_streams():
    """A stream with a group, and a read that waits."""
    with connect() as client:
        client.xgroup_create(key("x"), "g", mkstream=True)
        late = threading.Timer(0.1, lambda: client.xadd(key("x"), {"f": "v"}))
        late.start()
        entries = client.xreadgroup("g", "c", {key("x"): ">"}, block=5000)
        text = str(entries)
        assert key("x") in text and "'f': 'v'" in text, text
        late.join()
        assert client.xlen(key("x")) == 1


def check_subscriptions():
    """Messages between two clients."""
    with connect() as client, client.pubsub() as listener:
        listener.subscribe(key("channel"))
        assert next_message(listener)["type"] == "subscribe"
        assert client.publish(key("channel"), "hello") == 1
        assert next_message(listener)["data"] == "hello"


def next_message(listener):
    """The next message, in time."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        message = listener.get_message(timeout=0.5)
        if message is not None:
            return message
    raise AssertionError("no message in time")


def run_threads(work, count):
    """Runs something in several threads; their errors are this one's."""
    problems = []

    def guarded():
        try:
            work()
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


for name, check in list(globals().items()):
    if name.startswith("check_"):
        check()
        print(name, flush=True)
