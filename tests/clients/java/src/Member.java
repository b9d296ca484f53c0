import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * One member of a group that writes down all it sees: {@code Member BOOTSTRAP CLIENT GROUP PROTOCOL TOPIC [INSTANCE]}. A topic that begins
 * with ^ is a pattern. It commits after every poll, and leaves when its input ends. SESSION_MS is the session timeout of a classic member.
 */
final class Member {
    private final Events events;
    private final String group;
    private final KafkaConsumer<String, String> consumer;

    private Member(String bootstrap, String client, String group, String protocol, String instance) {
        this.events = new Events(client);
        this.group = group;
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("client.id", client);
        settings.put("group.id", group);
        settings.put("group.protocol", protocol);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("metadata.max.age.ms", "500");
        settings.put("key.deserializer", StringDeserializer.class.getName());
        settings.put("value.deserializer", StringDeserializer.class.getName());
        if (protocol.equals("classic")) {
            settings.put("session.timeout.ms", System.getenv("SESSION_MS"));
            settings.put("heartbeat.interval.ms", "500");
        }
        if (!instance.isEmpty()) {
            settings.put("group.instance.id", instance);
        }
        this.consumer = new KafkaConsumer<>(settings);
    }

    public static void main(String[] arguments) {
        String instance = arguments.length > 5 ? arguments[5] : "";
        Member member = new Member(arguments[0], arguments[1], arguments[2], arguments[3], instance);
        member.run(arguments[3], arguments[4]);
    }

    private void run(String protocol, String topic) {
        Events.Finish finish = new Events.Finish();
        Callbacks callbacks = new Callbacks();
        if (!topic.startsWith("^")) {
            consumer.subscribe(Set.of(topic), callbacks);
        } else if (protocol.equals("consumer")) {
            consumer.subscribe(new SubscriptionPattern(topic), callbacks);
        } else {
            consumer.subscribe(Pattern.compile(topic), callbacks);
        }
        while (!finish.asked()) {
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
            if (!records.isEmpty()) {
                deliver(records);
            }
        }
        consumer.close();
    }

    private void deliver(ConsumerRecords<String, String> records) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (TopicPartition partition : records.partitions()) {
            StringBuilder text = new StringBuilder();
            for (ConsumerRecord<String, String> record : records.records(partition)) {
                text.append(text.isEmpty() ? "" : ",").append('[').append(record.offset()).append(',');
                text.append(Events.quoted(record.value())).append(']');
                offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
            }
            events.write("polled", Events.field(partition) + ",\"records\":[" + text + "]");
        }
        long begun = Events.now();
        try {
            consumer.commitSync(offsets);
            events.write("committed", Events.field("begun", begun) + Events.field("group", group) + Events.offsets(offsets));
        } catch (KafkaException refused) {
            // A rebalance came in between: whoever owns these partitions now begins at the commit before.
            System.out.println("commit: " + refused);
        }
    }

    private final class Callbacks implements ConsumerRebalanceListener {
        private void write(String op, Collection<TopicPartition> partitions, String more) {
            events.write(op, Events.field("group", group) + Events.partitions(partitions) + more);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            write("assigned", partitions, Events.field("generation", consumer.groupMetadata().generationId()));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            write("revoked", partitions, "");
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            write("lost", partitions, "");
        }
    }
}
