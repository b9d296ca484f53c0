"""One member of a group, by librdkafka, that writes down all it sees: `member.py BOOTSTRAP CLIENT GROUP PROTOCOL TOPIC [INSTANCE]`.

A topic that begins with ^ is a pattern. It commits after every handful of records, and leaves when its input ends.
"""

import os
import sys

from confluent_kafka import Consumer, KafkaException, TopicPartition

from events import Events, finish, now, pairs, triples

HANDFUL = 500


class Member:
    def __init__(self, bootstrap, client, group, protocol, instance):
        self.events, self.group = Events(client), group
        self.owned, self.pending = {}, {}
        settings = {
            "bootstrap.servers": bootstrap, "client.id": client, "group.id": group, "group.protocol": protocol,
            "enable.auto.commit": False, "auto.offset.reset": "earliest", "topic.metadata.refresh.interval.ms": 500,
            "fetch.wait.max.ms": 100,
        }
        if protocol == "classic":
            settings.update({"session.timeout.ms": int(os.environ["SESSION_MS"]), "heartbeat.interval.ms": 500,
                             "partition.assignment.strategy": "cooperative-sticky"})
        if instance:
            settings["group.instance.id"] = instance
        self.consumer = Consumer(settings)

    def run(self, topic):
        asked = finish()
        self.consumer.subscribe([topic], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_lost)
        while not asked.is_set():
            message = self.consumer.poll(0.1)
            count = 0
            while message is not None:
                if message.error():
                    print("poll:", message.error(), flush=True)
                else:
                    place = (message.topic(), message.partition())
                    self.pending.setdefault(place, []).append([message.offset(), message.value().decode()])
                count += 1
                message = self.consumer.poll(0) if count < HANDFUL else None
            self.deliver()
        self.deliver()
        self.events.write("revoked", group=self.group, partitions=[list(place) for place in self.owned])
        self.consumer.close()

    def deliver(self):
        """Writes down and commits what was polled since the last time."""
        pending, self.pending = self.pending, {}
        if not pending:
            return
        offsets = []
        for (topic, partition), records in pending.items():
            self.events.write("polled", topic=topic, partition=partition, records=records)
            offsets.append(TopicPartition(topic, partition, records[-1][0] + 1))
        begun = now()
        try:
            done = self.consumer.commit(offsets=offsets, asynchronous=False)
            if all(partition.error is None for partition in done):
                self.events.write("committed", begun=begun, group=self.group, offsets=triples(offsets))
        except KafkaException as refused:
            # A rebalance came in between: whoever owns these partitions now begins at the commit before.
            print("commit:", refused, flush=True)

    def on_assign(self, _consumer, partitions):
        self.owned.update({(partition.topic, partition.partition): True for partition in partitions})
        self.events.write("assigned", group=self.group, partitions=pairs(partitions))

    def on_revoke(self, _consumer, partitions):
        self.deliver()
        self.drop("revoked", partitions)

    def on_lost(self, _consumer, partitions):
        self.pending = {}
        self.drop("lost", partitions)

    def drop(self, op, partitions):
        for partition in partitions:
            self.owned.pop((partition.topic, partition.partition), None)
        self.events.write(op, group=self.group, partitions=pairs(partitions))


if __name__ == "__main__":
    bootstrap, client, group, protocol, topic = sys.argv[1:6]
    Member(bootstrap, client, group, protocol, sys.argv[6] if len(sys.argv) > 6 else "").run(topic)
