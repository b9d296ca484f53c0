"""The suite of confluent-kafka, which is librdkafka: the client below most clients that are not Java.

Called as `confluent.py BOOTSTRAP RUN ROUND [CASE]`; see tests/clients/README.md.
"""

import json
import time

from confluent_kafka import (OFFSET_BEGINNING, Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, IsolationLevel,
                             KafkaError, KafkaException, Producer, TopicCollection, TopicPartition)
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   OffsetSpec, ResourceType)

from cases import (BOOTSTRAP, EVERY, ROUND, RUN, case, codec_key, codec_value, equal, eventually, expect, perform_all)


def name(part):
    return f"{RUN}-confluent-{part}"


def producer(**options):
    settings = {"bootstrap.servers": BOOTSTRAP, "linger.ms": 5}
    return Producer({**settings, **{key.replace("_", "."): value for key, value in options.items()}})


def consumer(group, **options):
    settings = {"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest",
                "enable.auto.commit": False, "heartbeat.interval.ms": 300, "session.timeout.ms": 10000}
    return Consumer({**settings, **{key.replace("_", "."): value for key, value in options.items()}})


def read(client, count, seconds=30):
    records, deadline = [], time.monotonic() + seconds
    while len(records) < count:
        expect(time.monotonic() < deadline, f"only {len(records)} of {count} records came")
        message = client.poll(0.5)
        if message is not None:
            expect(message.error() is None, f"consuming: {message.error()}")
            records.append(message)
    return records


def settle(futures):
    """Waits for an administrator's futures; a mapping of results."""
    return {key: future.result(timeout=30) for key, future in futures.items()}


def refused(code, call):
    """The call must fail with this error."""
    try:
        call()
    except KafkaException as failure:
        equal(failure.args[0].code(), code, f"error ({failure.args[0].str()})")
        return
    raise AssertionError(f"no error, expected {code}")


def create(topic, partitions=1, **configs):
    config = {key.replace("_", "."): value for key, value in configs.items()}
    settle(ADMIN.create_topics([NewTopic(topic, partitions, 1, config=config)]))


def write(topic, values, **options):
    """Writes with delivery reports; the places where the records are."""
    places, failures = [], []

    def report(error, message):
        if error is not None:
            failures.append(error)
        else:
            places.append((message.partition(), message.offset()))

    client = producer(**options)
    for i, value in enumerate(values):
        client.produce(topic, value, partition=0, on_delivery=report)
        if i % 100 == 0:
            client.poll(0)
    equal(client.flush(30), 0, "records left after flush")
    expect(not failures, f"{len(failures)} failures, first: {failures[:1]}")
    return places


@case()
def json_autocreate():
    topic = name("json")
    client, reports = producer(), []
    for i in range(200):
        client.produce(topic, json.dumps({"n": i}), key=f"k{i % 4}", on_delivery=lambda e, m: reports.append((e, m)))
    equal(client.flush(30), 0, "records left after flush")
    equal([e for e, _ in reports if e is not None], [], "failures")
    reader = consumer(name("json"))
    reader.subscribe([topic])
    found = read(reader, 200)
    equal(sorted(json.loads(record.value())["n"] for record in found), list(range(200)), "numbers")
    reader.close()


@case()
def group_earliest():
    topic, group = name("earliest"), name("earliest")
    create(topic)
    places = write(topic, [b"%d" % i for i in range(100)])
    equal(places, [(0, i) for i in range(100)], "places")
    reader = consumer(group)
    reader.subscribe([topic])
    equal([int(record.value()) for record in read(reader, 100)], list(range(100)), "values")
    reader.commit(asynchronous=False)
    equal(reader.committed([TopicPartition(topic, 0)])[0].offset, 100, "committed")
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0)), (0, 100), "watermarks")
    reader.close()


@case(EVERY)
def resume_from_commit():
    topic, group = name("resume"), name("resume")
    if ROUND == 0:
        create(topic)
        write(topic, [b"%d" % i for i in range(60)])
    reader = consumer(group)
    reader.subscribe([topic])
    found = read(reader, 20)
    equal([int(record.value()) for record in found], list(range(ROUND * 20, ROUND * 20 + 20)), f"round {ROUND}")
    reader.commit(message=found[-1], asynchronous=False)
    reader.close()


@case()
def codecs_write():
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        topic = f"{RUN}-codec-confluent-{codec}"
        create(topic)
        client = producer(compression_type=codec, linger_ms=50)
        for i in range(40):
            value = codec_value("confluent", codec, i)
            client.produce(topic, value, key=codec_key(i), partition=0, headers=[("n", b"%d" % i)])
        equal(client.flush(30), 0, "records left after flush")


@case(EVERY)
def codecs_read():
    prefix = f"{RUN}-codec-" + ("confluent-" if ROUND == 0 else "")
    topics = [topic for topic in ADMIN.list_topics(timeout=10).topics if topic.startswith(prefix)]
    expect(len(topics) >= 5, f"only {topics}")
    reader = consumer(name("codecs"))
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in topics])
    found = read(reader, 40 * len(topics))
    for topic in topics:
        writer, codec = topic.split("-")[2:4]
        mine = [record for record in found if record.topic() == topic]
        equal(len(mine), 40, f"{topic}: records")
        for i, record in enumerate(mine):
            equal(record.key(), codec_key(i), f"{topic}: key at {i}")
            equal(record.value(), codec_value(writer, codec, i), f"{topic}: value at {i}")
            equal(record.headers(), [("n", b"%d" % i)], f"{topic}: headers at {i}")
    reader.close()


@case()
def headers_and_nulls():
    topic = name("headers")
    create(topic)
    headers = [("twice", b"1"), ("twice", b"2"), ("null", None), ("empty", b""), ("bytes", b"\xff\xfe\x00")]
    client = producer()
    client.produce(topic, b"null key")
    client.produce(topic, b"", key=b"")
    client.produce(topic, None, key=b"tombstone")
    client.produce(topic, b"\x80\x00", key=b"\xff", headers=headers)
    equal(client.flush(30), 0, "records left after flush")
    reader = consumer(name("headers"))
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found = read(reader, 4)
    equal([(record.key(), record.value()) for record in found],
          [(None, b"null key"), (b"", b""), (b"tombstone", None), (b"\xff", b"\x80\x00")], "records")
    equal(found[3].headers(), headers, "headers")
    reader.close()


@case()
def large_records():
    topic = name("large")
    create(topic, max_message_bytes="2000000")
    write(topic, [bytes([65 + i]) * (1 << 20) for i in range(3)], message_max_bytes=2_000_000)
    reader = consumer(name("large"), fetch_message_max_bytes=1000)
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    equal([(len(r.value()), r.value()[:1]) for r in read(reader, 3)], [(1 << 20, b"A"), (1 << 20, b"B"), (1 << 20, b"C")], "records")
    reader.close()
    errors = []
    client = producer(message_max_bytes=4_000_000)
    client.produce(topic, b"x" * 3_000_000, on_delivery=lambda error, _: errors.append(error.code()))
    client.flush(30)
    equal(errors, [KafkaError.MSG_SIZE_TOO_LARGE], "a record above max.message.bytes")


@case(EVERY)
def idempotent_producer():
    topic = name("idempotent")
    if ROUND == 0:
        create(topic)
    write(topic, [b"%d" % (ROUND * 500 + i) for i in range(500)], enable_idempotence=True, compression_type="lz4")
    reader = consumer(name("idempotent"))
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    equal([int(record.value()) for record in read(reader, (ROUND + 1) * 500)], list(range((ROUND + 1) * 500)), "values")
    reader.close()


def shared(topic, partitions, members):
    """None when the members together own every partition exactly once."""
    parts = [{tp.partition for tp in member.assignment() if tp.topic == topic} for member in members]
    if sum(map(len, parts)) != partitions or len(set().union(*parts)) != partitions or any(not part for part in parts):
        return f"assignments {parts}"
    return None


def rebalance(strategy):
    topic, group = name(f"rebalance-{strategy}"), name(f"rebalance-{strategy}")
    create(topic, 6)
    seen = []

    def join():
        member = consumer(group, partition_assignment_strategy=strategy, enable_auto_commit=True)
        member.subscribe([topic])
        return member

    def turn(members):
        for member in members:
            message = member.poll(0.02)
            if message is not None and message.error() is None:
                seen.append(int(message.value()))
        return shared(topic, 6, members)

    client = producer()

    def spread(begin):
        for i in range(begin, begin + 60):
            client.produce(topic, b"%d" % i, partition=i % 6)
        client.flush(30)

    one = join()
    eventually(lambda: turn([one]))
    spread(0)
    two = join()
    eventually(lambda: turn([one, two]))
    spread(60)
    one.close()
    eventually(lambda: turn([two]))
    spread(120)

    def all_seen():
        turn([two])
        return None if set(seen) >= set(range(180)) else f"{len(set(seen))} of 180 seen"

    eventually(all_seen)
    two.close()


@case()
def rebalance_eager():
    rebalance("range")


@case()
def rebalance_cooperative():
    rebalance("cooperative-sticky")


@case()
def static_member_restart():
    topic, group = name("static"), name("static")
    create(topic, 4)
    revoked = []

    def join(instance):
        member = consumer(group, group_instance_id=instance, session_timeout_ms=20000)
        member.subscribe([topic], on_revoke=lambda _, partitions: revoked.append(partitions))
        return member

    def turn(members):
        for member in members:
            member.poll(0.02)
        return shared(topic, 4, members)

    one, two = join("one"), join("two")
    eventually(lambda: turn([one, two]))
    before = [sorted(tp.partition for tp in member.assignment()) for member in (one, two)]
    two.close()
    revoked.clear()
    two = join("two")
    eventually(lambda: turn([one, two]))
    after = [sorted(tp.partition for tp in member.assignment()) for member in (one, two)]
    equal(after, before, "assignment after the member came back")
    equal(revoked, [], "revocations")
    one.close()
    two.close()


@case()
def admin_topics():
    topic = name("admin")
    create(topic, 2, retention_ms="3600000")
    refused(KafkaError.TOPIC_ALREADY_EXISTS, lambda: create(topic))
    refused(KafkaError.TOPIC_EXCEPTION, lambda: create("not a name"))
    refused(KafkaError.INVALID_REPLICATION_FACTOR, lambda: settle(ADMIN.create_topics([NewTopic(topic + "-rf", 1, 3)])))
    refused(KafkaError.INVALID_CONFIG, lambda: create(topic + "-config", retention_ms="soon"))
    described = settle(ADMIN.describe_topics(TopicCollection([topic])))[topic]
    equal([p.id for p in described.partitions], [0, 1], "partitions")
    equal([len(p.isr) for p in described.partitions], [1, 1], "replicas in sync")
    settle(ADMIN.create_partitions([NewPartitions(topic, 4)]))
    refused(KafkaError.INVALID_PARTITIONS, lambda: settle(ADMIN.create_partitions([NewPartitions(topic, 3)])))
    eventually(lambda: None if len(ADMIN.list_topics(topic, 10).topics[topic].partitions) == 4 else "not yet 4")
    settle(ADMIN.delete_topics([topic]))
    eventually(lambda: None if topic not in ADMIN.list_topics(timeout=10).topics else "still listed")
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: settle(ADMIN.delete_topics([topic])))


@case()
def admin_configs():
    topic = name("configs")
    create(topic)
    change = ConfigEntry("retention.ms", "99000", incremental_operation=AlterConfigOpType.SET)
    settle(ADMIN.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])]))
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def described():
        return settle(ADMIN.describe_configs([resource]))[resource]

    eventually(lambda: None if described()["retention.ms"].value == "99000" else "retention.ms is not set")
    expect(not described()["retention.ms"].is_default, "said to be the default")
    expect(described()["segment.bytes"].is_default, "segment.bytes is said to be changed")
    change = ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)
    settle(ADMIN.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])]))
    eventually(lambda: None if described()["retention.ms"].value == "604800000" else "retention.ms is not the default again")
    broker = ConfigResource(ResourceType.BROKER, "1")
    equal(settle(ADMIN.describe_configs([broker]))[broker]["num.partitions"].value, "3", "num.partitions of the broker")


@case()
def admin_offsets():
    topic = name("offsets")
    create(topic)
    client = producer()
    origin = int(time.time() * 1000) - 100_000
    for i in (0, 1, 9, 3, 4):
        client.produce(topic, b"x", timestamp=origin + i * 1000)
        client.flush(30)
    partition = TopicPartition(topic, 0)

    def ask(spec):
        found = settle(ADMIN.list_offsets({partition: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED))[partition]
        return found.offset, found.timestamp

    equal(ask(OffsetSpec.earliest())[0], 0, "earliest")
    equal(ask(OffsetSpec.latest())[0], 5, "latest")
    equal(ask(OffsetSpec.max_timestamp()), (2, origin + 9000), "max timestamp")
    equal(ask(OffsetSpec.for_timestamp(origin + 1500))[0], 2, "by timestamp")
    equal(ask(OffsetSpec.for_timestamp(origin + 9500))[0], -1, "after the greatest timestamp")
    reader = consumer(name("offsets"))
    found = reader.offsets_for_times([TopicPartition(topic, 0, origin + 1)], timeout=10)
    equal(found[0].offset, 1, "offsets_for_times")
    reader.close()
    deleted = settle(ADMIN.delete_records([TopicPartition(topic, 0, 2)]))
    equal([result.low_watermark for result in deleted.values()], [2], "low watermark")
    equal(ask(OffsetSpec.earliest())[0], 2, "earliest after deletion")


@case()
def admin_groups():
    topic, group = name("groups"), name("groups")
    create(topic, 2)
    write(topic, [b"x"] * 10)
    reader = consumer(group, client_id="somebody")
    reader.subscribe([topic])
    read(reader, 10)
    reader.commit(asynchronous=False)
    listed = {g.group_id: g for g in ADMIN.list_consumer_groups().result(30).valid}
    equal(listed[group].state, ConsumerGroupState.STABLE, "listed state")
    described = settle(ADMIN.describe_consumer_groups([group]))[group]
    equal(described.state, ConsumerGroupState.STABLE, "state")
    equal([m.client_id for m in described.members], ["somebody"], "members")
    equal(sorted(tp.partition for tp in described.members[0].assignment.topic_partitions), [0, 1], "assignment")
    refused(KafkaError.NON_EMPTY_GROUP, lambda: settle(ADMIN.delete_consumer_groups([group])))
    reader.close()

    request = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])]
    found = settle(ADMIN.list_consumer_group_offsets(request))[group]
    equal([tp.offset for tp in found.topic_partitions], [10], "committed")
    moved = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 4)])]
    settle(ADMIN.alter_consumer_group_offsets(moved))
    again = consumer(group)
    again.subscribe([topic])
    equal(read(again, 1)[0].offset(), 4, "first offset after moving the group")
    again.close()
    settle(ADMIN.delete_consumer_groups([group]))
    refused(KafkaError.GROUP_ID_NOT_FOUND, lambda: settle(ADMIN.delete_consumer_groups([group])))


@case(EVERY)
def admin_cluster():
    cluster = ADMIN.describe_cluster().result(30)
    equal([f"{node.host}:{node.port}" for node in cluster.nodes], [BOOTSTRAP], "nodes")
    expect(cluster.cluster_id and cluster.controller is not None, "no cluster id or no controller")


@case(EVERY)
def unknown_topic():
    topic = name("nowhere")
    # An administrator's or a producer's question would create the topic; a consumer's does not.
    reader = consumer(name("nowhere"), allow_auto_create_topics=False, topic_metadata_propagation_max_ms=0)
    equal(reader.list_topics(topic, timeout=10).topics[topic].error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "metadata")
    reader.subscribe([topic])
    error, deadline = None, time.monotonic() + 20
    while error is None and time.monotonic() < deadline:
        message = reader.poll(0.2)
        error = message.error() if message is not None else None
    expect(error and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART, f"subscribed to nowhere: {error}")
    reader.close()
    expect(topic not in ADMIN.list_topics(timeout=10).topics, "asking created the topic")


if __name__ == "__main__":
    ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})
    perform_all()
