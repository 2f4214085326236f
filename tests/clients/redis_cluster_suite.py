"""What applications do with redis-py's cluster client: `redis_cluster_suite.py PORT PROTOCOL PREFIX`.

Each function is one check with assertions; prints the name of each that passed. All keys begin
with the prefix, so that several copies can run at once.
"""

import sys
import threading

import redis
from redis.cluster import RedisCluster

PORT, PROTOCOL, PREFIX = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def connect(**options):
    """A client that looks for the nodes itself."""
    settings = {"protocol": PROTOCOL, "decode_responses": True}
    return RedisCluster(host="127.0.0.1", port=PORT, **(settings | options))


def key(name):
    """A key of this copy's own."""
    return f"{PREFIX}:{name}"


def check_nodes():
    """It finds the proxy, and nobody else."""
    with connect() as client:
        nodes = client.get_nodes()
        assert [(node.host, node.port) for node in nodes] == [("127.0.0.1", PORT)], nodes
        assert client.cluster_info()["cluster_state"] == "ok"
        assert len(client.cluster_nodes()) == 1
        assert client.cluster_keyslot("foo") == 12182


def check_values():
    """Values in many slots."""
    with connect() as client:
        for n in range(200):
            assert client.set(key(n), n) is True
        for n in range(200):
            assert client.get(key(n)) == str(n)
        assert client.mget_nonatomic([key(n) for n in range(50)]) == [str(n) for n in range(50)]
        assert client.delete(*[key(n) for n in range(200)]) == 200


def check_pipelines():
    """Many commands at once, over all slots."""
    with connect() as client:
        with client.pipeline() as pipe:
            for n in range(300):
                pipe.set(key(f"p{n}"), n)
                pipe.incr(key(f"p{n}"))
            results = pipe.execute()
        assert results[1::2] == [n + 1 for n in range(300)]


def check_scans():
    """Every key is found, wherever it is."""
    with connect() as client:
        for n in range(100):
            client.set(key(f"scan{n}"), n)
        found = set(client.scan_iter(match=key("scan*"), count=10))
        assert len(found) == 100, len(found)


def check_scripts():
    """A script by its text and by its name."""
    with connect() as client:
        script = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
        for n in range(20):
            assert script(keys=[key(f"script{n}")], args=[n]) == n


def check_blocking():
    """A pop that waits for what another connection pushes."""
    with connect() as client, connect() as other:
        client.delete(key("queue"))
        timer = threading.Timer(0.2, lambda: other.rpush(key("queue"), "job"))
        timer.start()
        assert tuple(client.blpop([key("queue")], timeout=20)) == (key("queue"), "job")
        timer.join()


def check_messages():
    """Channels, and channels of shards."""
    with connect() as client, connect() as other:
        listener = client.pubsub()
        listener.subscribe(key("news"))
        assert listener.get_message(timeout=20)["type"] == "subscribe"
        other.publish(key("news"), "hello")
        assert listener.get_message(timeout=20)["data"] == "hello"
        listener.close()


def check_plain():
    """A client that knows of no cluster sees one plain Redis."""
    with redis.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True) as client:
        names = [key(f"plain{n}") for n in range(60)]
        client.mset({name: n for n, name in enumerate(names)})
        assert client.mget(names) == [str(n) for n in range(60)]
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.incr(name)
            assert pipe.execute() == list(range(1, 61))
        with client.pipeline(transaction=True) as pipe:
            pipe.incr(key("{t}a")).incr(key("{t}b"))
            assert len(pipe.execute()) == 2
        with client.pipeline() as pipe:
            pipe.watch(names[0])
            value = int(pipe.get(names[0]))
            pipe.multi()
            pipe.set(names[0], value + 1)
            assert pipe.execute() == [True]
        assert client.delete(*names) == 60


for name, check in list(globals().items()):
    if name.startswith("check_"):
        check()
        print(name, flush=True)
