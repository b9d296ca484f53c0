"""Consume, transform, produce, exactly once, by librdkafka: `copier.py BOOTSTRAP CLIENT GROUP PROTOCOL SOURCE TARGET NUMBER`.

Every handful of records becomes a transaction, every fifth transaction is aborted. When its input ends it goes on to the end of the
source, then ends. A copier that was killed is followed by one with the next number; it takes over its transactional id and, in a classic
group, its place.
"""

import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from events import Events, finish, now, triples

ABORT_EVERY, HANDFUL, SECONDS = 5, 200, 30
# When all brokers are away, librdkafka begins anew with its bootstrap servers and throws its brokers away (the default, "rebootstrap"). But
# it waits for a group's coordinator in a cache that still holds the broker that was thrown away, so that send_offsets_to_transaction never
# returns, whatever its timeout (librdkafka issue 5511; 2.10 to 2.16.1 at least; against every server that is away for a moment).
STEADFAST = {"metadata.recovery.strategy": "none"}


class Copier:
    def __init__(self, bootstrap, client, group, protocol, source, target, number):
        self.bootstrap, self.client, self.group, self.source, self.target = bootstrap, client, group, source, target
        self.events = Events(client)
        self.number, self.transactions = number, 0
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap, "client.id": client, "group.id": group, "group.protocol": protocol,
            "enable.auto.commit": False, "auto.offset.reset": "earliest", "isolation.level": "read_committed",
            "reconnect.backoff.max.ms": 100, "fetch.wait.max.ms": 100, **STEADFAST,
            **({"group.instance.id": client} if protocol == "classic" else {}),
        })
        self.producer = self.new_producer()

    def new_producer(self):
        producer = Producer({"bootstrap.servers": self.bootstrap, "client.id": self.client, "transactional.id": self.client,
                             "linger.ms": 1, "reconnect.backoff.max.ms": 100, **STEADFAST})
        again(lambda: producer.init_transactions(SECONDS))
        return producer

    def run(self):
        asked = finish()
        self.consumer.subscribe([self.source])
        while True:
            messages = []
            for message in self.consumer.consume(HANDFUL, 0.1):
                if message.error():
                    print("poll:", message.error(), flush=True)
                else:
                    messages.append(message)
            if messages:
                self.copy(messages)
            elif asked.is_set() and self.is_at_end():
                break
        self.producer.flush(SECONDS)
        self.consumer.close()

    def is_at_end(self):
        mine = self.consumer.assignment()
        try:
            return bool(mine) and all(
                committed.offset >= self.consumer.get_watermark_offsets(committed, timeout=SECONDS)[1]
                or self.consumer.position([committed])[0].offset >= self.consumer.get_watermark_offsets(committed, timeout=SECONDS)[1]
                for committed in self.consumer.committed(mine, timeout=SECONDS))
        except KafkaException as away:
            print("is at end:", away, flush=True)
            return False

    def copy(self, messages):
        self.transactions += 1
        txn, offsets, begun = f"{self.client}-{self.number}-{self.transactions}", {}, None
        try:
            self.producer.begin_transaction()
            for message in messages:
                self.send(txn, message)
                offsets[message.partition()] = TopicPartition(message.topic(), message.partition(), message.offset() + 1)
            if self.transactions % ABORT_EVERY == 0:
                self.producer.flush(SECONDS)
                self.abort(txn)
                return
            self.producer.send_offsets_to_transaction(list(offsets.values()), self.consumer.consumer_group_metadata(), SECONDS)
            begun = now()
            # A commit whose answer did not come in time may be asked for again; nothing else may be done with it.
            again(lambda: self.producer.commit_transaction(SECONDS))
            self.events.write("ended", begun=begun, txn=txn, committed=True)
            self.events.write("committed", begun=begun, group=self.group, offsets=triples(offsets.values()))
        except KafkaException as failure:
            print(txn, failure, flush=True)
            if failure.args[0].txn_requires_abort() or not begun and failure.args[0].retriable():
                self.abort(txn)
            else:
                # Whether it was committed is for the coordinator to say; a new producer waits until it is decided.
                self.events.write("ended", begun=begun or now(), txn=txn, committed=None if begun else False)
                self.renew()

    def send(self, txn, message):
        value = f"{message.value().decode()}#{txn}"
        self.events.write("sending", topic=self.target, value=value, txn=txn)

        def acked(error, sent):
            if error is None:
                self.events.write("acked", topic=sent.topic(), partition=sent.partition(), value=value, offset=sent.offset())

        while True:
            try:
                self.producer.produce(self.target, value, message.key(), message.partition(), on_delivery=acked)
                break
            except BufferError:
                self.producer.poll(0.1)
        self.producer.poll(0)

    def abort(self, txn):
        begun = now()
        try:
            again(lambda: self.producer.abort_transaction(SECONDS))
            self.events.write("ended", begun=begun, txn=txn, committed=False)
            self.rewind()
        except KafkaException as fatal:
            print("abort:", fatal, flush=True)
            # Never committed by us; a new producer has the coordinator abort it.
            self.events.write("ended", begun=begun, txn=txn, committed=False)
            self.renew()

    def renew(self):
        self.producer = None
        self.producer = self.new_producer()
        self.rewind()

    def rewind(self):
        """Back to the offsets of the last committed transaction."""
        for place in again(lambda: self.consumer.committed(self.consumer.assignment(), timeout=SECONDS)):
            self.events.write("sought", topic=place.topic, partition=place.partition)
            self.consumer.seek(TopicPartition(place.topic, place.partition, max(place.offset, 0)))


def again(attempt):
    """Until it is done or fails for good."""
    while True:
        try:
            return attempt()
        except KafkaException as failure:
            if not failure.args[0].retriable():
                raise
            print("again:", failure, flush=True)


if __name__ == "__main__":
    Copier(*sys.argv[1:8]).run()
