import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Consume, transform, produce, exactly once: {@code Copier BOOTSTRAP CLIENT GROUP PROTOCOL SOURCE TARGET NUMBER}. Every poll becomes a
 * transaction, every fifth transaction is aborted. When its input ends it goes on to the end of the source, then ends. A copier that was
 * killed is followed by one with the next number; it takes over its transactional id and, in a classic group, its place.
 */
final class Copier {
    private static final int ABORT_EVERY = 5;

    private final Events events;
    private final String bootstrap;
    private final String client;
    private final String group;
    private final String source;
    private final String target;
    private final String number;
    private final KafkaConsumer<String, String> consumer;
    private KafkaProducer<String, String> producer;
    private int transactions;

    private Copier(String[] arguments) {
        bootstrap = arguments[0];
        client = arguments[1];
        group = arguments[2];
        source = arguments[4];
        target = arguments[5];
        number = arguments[6];
        events = new Events(client);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("client.id", client);
        settings.put("group.id", group);
        settings.put("group.protocol", arguments[3]);
        if (arguments[3].equals("classic")) {
            settings.put("group.instance.id", client);
        }
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("isolation.level", "read_committed");
        settings.put("max.poll.records", "200");
        settings.put("reconnect.backoff.max.ms", "100");
        settings.put("key.deserializer", StringDeserializer.class.getName());
        settings.put("value.deserializer", StringDeserializer.class.getName());
        consumer = new KafkaConsumer<>(settings);
    }

    public static void main(String[] arguments) {
        new Copier(arguments).run();
    }

    private void run() {
        Events.Finish finish = new Events.Finish();
        consumer.subscribe(Set.of(source));
        producer = newProducer();
        while (true) {
            ConsumerRecords<String, String> records;
            try {
                records = consumer.poll(Duration.ofMillis(100));
                if (records.isEmpty() && finish.asked() && isAtEnd()) {
                    break;
                }
            } catch (TimeoutException away) {
                System.out.println("poll: " + away);
                continue;
            }
            if (!records.isEmpty()) {
                copy(records);
            }
        }
        producer.close();
        consumer.close();
    }

    private KafkaProducer<String, String> newProducer() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("client.id", client);
        settings.put("transactional.id", client);
        settings.put("linger.ms", "1");
        settings.put("reconnect.backoff.max.ms", "100");
        settings.put("key.serializer", StringSerializer.class.getName());
        settings.put("value.serializer", StringSerializer.class.getName());
        KafkaProducer<String, String> fresh = new KafkaProducer<>(settings);
        while (true) {
            try {
                fresh.initTransactions();
                return fresh;
            } catch (TimeoutException away) {
                System.out.println("initTransactions: " + away);
            }
        }
    }

    private boolean isAtEnd() {
        Set<TopicPartition> mine = consumer.assignment();
        if (mine.isEmpty()) {
            return false;
        }
        Map<TopicPartition, Long> ends = consumer.endOffsets(mine);
        return mine.stream().allMatch(partition -> consumer.position(partition) >= ends.get(partition));
    }

    private void copy(ConsumerRecords<String, String> records) {
        String txn = client + "-" + number + "-" + ++transactions;
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        boolean ending = false;
        long begun = 0;
        try {
            producer.beginTransaction();
            for (ConsumerRecord<String, String> record : records) {
                send(txn, record);
                TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
            }
            if (transactions % ABORT_EVERY == 0) {
                producer.flush();
                abort(txn);
                return;
            }
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            ending = true;
            begun = Events.now();
            commit();
            ended(txn, begun, "true");
            events.write("committed", Events.field("begun", begun) + Events.field("group", group) + Events.offsets(offsets));
        } catch (KafkaException failure) {
            System.out.println(txn + ": " + failure + ", because of " + failure.getCause());
            if (ending) {
                // Whether it was committed is for the coordinator to say; a new producer waits until it is decided.
                ended(txn, begun, "null");
                renew();
            } else {
                abort(txn);
            }
            return;
        }
    }

    /** A commit whose answer did not come in time may be asked for again; nothing else may be done with it. */
    private void commit() {
        while (true) {
            try {
                producer.commitTransaction();
                return;
            } catch (TimeoutException late) {
                System.out.println("commit: " + late);
            }
        }
    }

    private void send(String txn, ConsumerRecord<String, String> record) {
        String value = record.value() + "#" + txn;
        events.write("sending", Events.field("topic", target) + Events.field("value", value) + Events.field("txn", txn));
        producer.send(new ProducerRecord<>(target, record.partition(), record.key(), value), (metadata, failure) -> {
            if (failure == null) {
                TopicPartition partition = new TopicPartition(target, metadata.partition());
                events.write("acked", Events.field(partition) + Events.field("value", value) + Events.field("offset", metadata.offset()));
            }
        });
    }

    private void abort(String txn) {
        long begun = Events.now();
        try {
            producer.abortTransaction();
            ended(txn, begun, "false");
            rewind();
        } catch (KafkaException fatal) {
            System.out.println("abort: " + fatal);
            // Never committed by us; a new producer has the coordinator abort it.
            ended(txn, begun, "false");
            renew();
        }
    }

    private void renew() {
        producer.close(Duration.ZERO);
        producer = newProducer();
        rewind();
    }

    private void ended(String txn, long begun, String committed) {
        events.write("ended", Events.field("begun", begun) + Events.field("txn", txn) + ",\"committed\":" + committed);
    }

    /** Back to the offsets of the last committed transaction. */
    private void rewind() {
        while (true) {
            try {
                Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
                committed.forEach((partition, offset) -> {
                    events.write("sought", Events.field(partition));
                    if (offset == null) {
                        consumer.seekToBeginning(Set.of(partition));
                    } else {
                        consumer.seek(partition, offset);
                    }
                });
                return;
            } catch (TimeoutException away) {
                System.out.println("committed: " + away);
            }
        }
    }
}
